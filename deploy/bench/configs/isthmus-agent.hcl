node_name      = "dc2-1"
advertise_addr = "{{.Backend.Addr}}"
