//go:build !linux

package enginetest

import (
	"net/netip"
	"testing"
)

// silent skips the test: what a full queue does is not known here.
func silent(t *testing.T) netip.AddrPort {
	t.Skip("!!! NOT TESTED WITH AN ENDPOINT THAT IS SILENT: that needs Linux !!!")
	return netip.AddrPort{}
}

// asleep is an endpoint that refuses until it is woken.
type asleep struct{ address netip.AddrPort }

func newAsleep(t *testing.T) *asleep {
	t.Skip("!!! NOT TESTED WITH AN ENDPOINT THAT RETURNS: that needs Linux !!!")
	return nil
}

func (*asleep) wake(*testing.T) {}

func (*asleep) sleep(*testing.T) {}
