node_name      = "dc2-db-1"
advertise_addr = "127.2.0.11"
