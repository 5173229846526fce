package devagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Consul's usual ports, and one that only says that the others are taken.
const (
	portServer  = 8300
	portLAN     = 8301
	portWAN     = 8302
	portClaim   = 8499
	portHTTP    = 8500
	portHTTPS   = 8501
	portGRPC    = 8502
	portGRPCTLS = 8503
)

const (
	// addresses is how many loopback addresses are tried, from 127.100.0.1 on.
	addresses = 1000
	// shifts is how many blocks of ports are tried where 127.0.0.1 is the only
	// loopback address, as on macOS: the usual ports, each block 10 higher.
	shifts = 19
)

// place is where an agent listens. While its claim is open no other process
// takes it that asks for a place too.
type place struct {
	address netip.Addr
	shift   int
	claim   net.Listener
}

// takePlace finds an address at which nobody listens; wanted, if it is valid, is
// the only one that will do.
func takePlace(ctx context.Context, wanted netip.Addr) (*place, error) {
	if wanted.IsValid() {
		return claimPlace(ctx, wanted, 0)
	}
	for i := range addresses {
		p, err := claimPlace(ctx, netip.AddrFrom4([4]byte{127, 100, byte(i / 250), byte(1 + i%250)}), 0)
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			break
		}
	}
	return takeShifted(ctx)
}

// takeShifted finds a block of ports of 127.0.0.1 where nobody listens.
func takeShifted(ctx context.Context) (*place, error) {
	var last error
	for i := range shifts {
		p, err := claimPlace(ctx, netip.AddrFrom4([4]byte{127, 0, 0, 1}), 10*i)
		if err == nil {
			return p, nil
		}
		last = err
	}
	return nil, fmt.Errorf("no loopback address with Consul's ports free: %w", last)
}

// claimPlace takes a place, if all of its ports are free.
func claimPlace(ctx context.Context, address netip.Addr, shift int) (*place, error) {
	p := &place{address: address, shift: shift}
	var config net.ListenConfig
	claim, err := config.Listen(ctx, "tcp", p.at(portClaim))
	if err != nil {
		return nil, err
	}
	for _, port := range []int{portServer, portLAN, portWAN, portHTTP, portHTTPS, portGRPC, portGRPCTLS} {
		listener, err := config.Listen(ctx, "tcp", p.at(port))
		if err != nil {
			return nil, errors.Join(err, claim.Close())
		}
		listener.Close()
	}
	for _, port := range []int{portLAN, portWAN} {
		packets, err := config.ListenPacket(ctx, "udp", p.at(port))
		if err != nil {
			return nil, errors.Join(err, claim.Close())
		}
		if err := packets.Close(); err != nil {
			return nil, errors.Join(err, claim.Close())
		}
	}
	p.claim = claim
	return p, nil
}

// port is a usual port as it is here.
func (p *place) port(usual int) int { return usual + p.shift }

// at is the address with a usual port as it is here.
func (p *place) at(usual int) string {
	return netip.AddrPortFrom(p.address, uint16(p.port(usual))).String()
}

// release lets others have the place.
func (p *place) release() error { return p.claim.Close() }
