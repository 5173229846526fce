package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// ErrOwn indicates an endpoint that is the gateway itself: a connection to it
// would come back, and be passed on again and again.
var ErrOwn = errors.New("it is an address of this gateway itself")

// Own is where an engine listens, so that it does not connect to itself. It is
// immutable; nil is nowhere.
type Own struct {
	// exact are the addresses; everywhere the ports at which it listens on all
	// addresses of the machine, local.
	exact      []netip.AddrPort
	everywhere []uint16
	local      []netip.Addr
}

// OwnOf collects the addresses of listeners.
func OwnOf(listeners []*Listener) *Own {
	o := &Own{}
	for _, l := range listeners {
		at := l.AddrPort()
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

// Check refuses an address that leads back here, with [ErrOwn].
func (o *Own) Check(address netip.AddrPort) error {
	if o == nil {
		return nil
	}
	ip := address.Addr().Unmap()
	here := slices.Contains(o.exact, netip.AddrPortFrom(ip, address.Port())) ||
		slices.Contains(o.everywhere, address.Port()) && (ip.IsLoopback() || slices.Contains(o.local, ip))
	if here {
		return fmt.Errorf("%s: %w", address, ErrOwn)
	}
	return nil
}
