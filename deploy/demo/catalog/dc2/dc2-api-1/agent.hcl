node_name      = "dc2-api-1"
advertise_addr = "127.2.0.10"
