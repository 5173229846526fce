node_name      = "dc2-gateway-2"
advertise_addr = "127.2.0.21"
