node_name      = "dc1-1"
advertise_addr = "127.0.0.1"
