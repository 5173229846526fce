//go:build !linux

package gateway

import "net"

// listenConfig leaves keep-alive to net.
func listenConfig() net.ListenConfig { return net.ListenConfig{} }
