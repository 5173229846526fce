//go:build linux

package loop_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
)

// After a drain, and a thousand changes of the endpoints before it, no descriptor is
// left of what was opened ahead.
func TestNoDescriptorIsLeft(t *testing.T) {
	set := setOf()
	var handlers sync.WaitGroup
	t.Cleanup(handlers.Wait)
	f := newFar(t, "0.0.0.0")
	before := descriptors(t)
	s := serveOn(t, 2, engine.Config{OpenAhead: 4}, set)
	tally := &tally{seen: make(map[string]int), conns: make(chan *net.TCPConn, 1<<14)}
	handlers.Go(func() {
		for c := range f.conns {
			handlers.Go(func() { tally.handle(c) })
		}
	})
	for i := range 1000 {
		ip := netip.AddrFrom4([4]byte{127, 1, byte(1 + i/200), byte(1 + i%200)})
		set.Replace(enginetest.Endpoints(netip.AddrPortFrom(ip, f.address.Port())), nil)
		if i%5 == 0 {
			answered(t, s, fmt.Sprint(i))
		}
	}
	if cut := s.drainNow(); cut != 0 {
		t.Errorf("%d connections are cut", cut)
	}
	if ready := s.Stats().Ahead.Ready; ready != 0 {
		t.Errorf("%d are ready after the drain", ready)
	}
	await(t, "there are no more descriptors than before", func() bool { return descriptors(t) <= before })
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
