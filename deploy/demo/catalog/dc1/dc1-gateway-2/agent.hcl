node_name      = "dc1-gateway-2"
advertise_addr = "127.1.0.21"
