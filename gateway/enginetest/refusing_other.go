//go:build !unix

package enginetest

import (
	"net"
	"net/netip"
)

// bindWithoutListening finds a port of loopback where nothing listens now.
func bindWithoutListening() (netip.AddrPort, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	address := listener.Addr().(*net.TCPAddr).AddrPort()
	return address, func() {}, listener.Close()
}
