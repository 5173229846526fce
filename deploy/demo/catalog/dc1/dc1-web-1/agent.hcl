node_name      = "dc1-web-1"
advertise_addr = "127.1.0.10"
