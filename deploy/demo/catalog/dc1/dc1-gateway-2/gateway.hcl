# Its LAN address serves sidecars of dc1, its WAN address other datacenters. An Envoy
# listens at both, as the keys of its config say; a Go gateway is told by the demo.
service {
  name    = "mesh-gateway"
  kind    = "mesh-gateway"
  address = "127.1.0.21"
  port    = 8443

  tagged_addresses {
    wan {
      address = "127.1.0.21"
      port    = 8444
    }
  }

  proxy {
    config {
      envoy_gateway_bind_tagged_addresses = true
    }
  }
}
