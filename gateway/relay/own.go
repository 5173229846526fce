package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// errOwn: a connection to it would come back here, and be passed on again and again.
var errOwn = errors.New("it is an address of this gateway itself")

// own is where an engine listens, so that it does not connect to itself.
type own struct {
	// exact are the addresses; everywhere the ports at which it listens on all
	// addresses of the machine, local.
	exact      []netip.AddrPort
	everywhere []uint16
	local      []netip.Addr
}

// ownOf collects the addresses of listeners.
func ownOf(listeners map[*net.TCPListener]struct{}) *own {
	o := &own{}
	for l := range listeners {
		at, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			continue // A TCP listener's address always is one.
		}
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		if at.Addr().IsUnspecified() {
			o.everywhere = append(o.everywhere, at.Port())
		} else {
			o.exact = append(o.exact, at)
		}
	}
	if len(o.everywhere) > 0 {
		o.local = localAddresses()
	}
	return o
}

// localAddresses are those of the machine's interfaces; none if they are not told.
func localAddresses() []netip.Addr {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, prefix.Addr().Unmap())
		}
	}
	return out
}

// check refuses an address that leads back here.
func (o *own) check(address netip.AddrPort) error {
	if o == nil {
		return nil
	}
	ip := address.Addr().Unmap()
	here := slices.Contains(o.exact, netip.AddrPortFrom(ip, address.Port())) ||
		slices.Contains(o.everywhere, address.Port()) && (ip.IsLoopback() || slices.Contains(o.local, ip))
	if here {
		return fmt.Errorf("%s: %w", address, errOwn)
	}
	return nil
}
