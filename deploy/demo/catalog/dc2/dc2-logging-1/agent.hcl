node_name      = "dc2-logging-1"
advertise_addr = "127.2.0.12"
