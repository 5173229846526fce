service {
  name = "search"
  port = 8080

  connect {
    sidecar_service {
      proxy {
        local_service_address = "127.2.0.13"
      }
    }
  }
}
