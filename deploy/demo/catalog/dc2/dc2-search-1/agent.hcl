node_name      = "dc2-search-1"
advertise_addr = "127.2.0.13"
