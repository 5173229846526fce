package resource

import "fmt"

// ListenerName is NAME:ADDRESS:PORT (Consul agent/xds/listeners.go, makeListener).
func ListenerName(name, address string, port uint32) string {
	return fmt.Sprintf("%s:%s:%d", name, address, port)
}

// loopback is where a proxy listens for its application, and finds it, unless told
// otherwise.
const loopback = "127.0.0.1"
