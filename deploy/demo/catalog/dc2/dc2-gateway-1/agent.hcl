node_name      = "dc2-gateway-1"
advertise_addr = "127.2.0.20"
