node_name      = "dc1-gateway-1"
advertise_addr = "127.1.0.20"
