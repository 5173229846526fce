service {
  name    = "mesh-gateway"
  kind    = "mesh-gateway"
  address = "{{.Listen.Addr}}"
  port    = {{.Listen.Port}}

  tagged_addresses {
    wan {
      address = "{{.Listen.Addr}}"
      port    = {{.Listen.Port}}
    }
  }
}
