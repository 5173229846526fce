services = [
  {
    name = "api"
    port = 80
  },
  {
    name = "api-sidecar-proxy"
    kind = "connect-proxy"
    port = {{.Backend.Port}}
    proxy {
      destination_service_name = "api"
    }
  },
]
