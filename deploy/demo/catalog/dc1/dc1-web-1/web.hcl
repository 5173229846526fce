service {
  name = "web"
  port = 8080
}

# The seed's example for a proxy upstream, with its datacenter; the fourth
# upstream has no mode of its own and follows proxy-defaults.
service {
  name = "web-sidecar-proxy"
  kind = "connect-proxy"
  port = 8181

  proxy {
    destination_service_name = "web"

    upstreams = [
      {
        destination_name   = "api"
        datacenter         = "dc2"
        local_bind_address = "127.1.0.10"
        local_bind_port    = 10000

        mesh_gateway {
          mode = "remote"
        }
      },
      {
        destination_name   = "db"
        datacenter         = "dc2"
        local_bind_address = "127.1.0.10"
        local_bind_port    = 10001

        mesh_gateway {
          mode = "local"
        }
      },
      {
        destination_name   = "logging"
        datacenter         = "dc2"
        local_bind_address = "127.1.0.10"
        local_bind_port    = 10002

        mesh_gateway {
          mode = "none"
        }
      },
      {
        destination_name   = "search"
        datacenter         = "dc2"
        local_bind_address = "127.1.0.10"
        local_bind_port    = 10003
      },
    ]
  }
}
