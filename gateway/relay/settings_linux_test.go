package relay_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Connections to other datacenters are probed as the registration says; all others
// when it is their turn, not all at once.
func TestKeepaliveOfTheRegistration(t *testing.T) {
	const far = "api.default.dc2.internal.td"
	tab := enginetest.Setup{
		Names:     map[string][]netip.AddrPort{api: {netip.MustParseAddrPort("10.0.0.1:1")}},
		Wildcards: map[string][]netip.AddrPort{".dc2.internal.td": {netip.MustParseAddrPort("10.0.0.2:1")}},
	}.Table()
	tab.Settings.Keepalive = &table.Keepalive{Idle: 33 * time.Second, Interval: 7 * time.Second, Count: 4}
	u := newUpstreams()
	dialled := make(chan relay.Conn, 1)
	dial := u.dial(t)
	random := uint64(0)
	cfg := engine.Config{Table: fixed(tab), Random: func() uint64 { random++; return random }}
	r := start(t, relay.Config{Config: cfg, Dial: func(ctx context.Context, address netip.AddrPort) (relay.Conn, error) {
		conn, err := dial(ctx, address)
		dialled <- conn
		return conn, err
	}})
	clients, endpoints := map[int]bool{}, map[int]bool{}
	for _, name := range []string{far, api, far, api, api, api} {
		c := connect(t, r)
		greeting := string(enginetest.HelloFor(name))
		write(t, c, greeting)
		conn := (<-dialled).(*net.TCPConn)
		near := <-u.near
		read(t, near, greeting)
		clients[idleOf(t, socketTo(t, c.LocalAddr()))] = true
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			got := idleOf(t, int(fd))
			if name == far && got != 33 {
				t.Errorf("another datacenter is probed after %d s, want 33", got)
			} else if name == api {
				endpoints[got] = true
			}
		})
		_, _ = near.Close(), c.Close()
	}
	if len(clients) < 6 || len(endpoints) < 4 || clients[15] || endpoints[15] {
		t.Errorf("clients are probed after %v s, endpoints after %v", clients, endpoints)
	}
}

// socketTo is the descriptor of this process that is connected to an address.
func socketTo(t *testing.T, peer net.Addr) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		address, err := unix.Getpeername(fd)
		if in, is := address.(*unix.SockaddrInet4); err == nil && is && netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)).String() == peer.String() {
			return fd
		}
	}
	t.Fatalf("no socket is connected to %s", peer)
	return 0
}

// idleOf is after how many seconds a socket is probed.
func idleOf(t *testing.T, fd int) int {
	t.Helper()
	seconds, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}
