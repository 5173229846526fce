# Its LAN address serves sidecars of dc2, its WAN address other datacenters.
service {
  name = "mesh-gateway"
  kind = "mesh-gateway"
  port = 8443

  tagged_addresses {
    wan {
      address = "127.2.0.20"
      port    = 8444
    }
  }
}
