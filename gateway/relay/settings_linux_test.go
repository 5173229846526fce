package relay_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// Connections to other datacenters are probed as the registration says, those to
// own services are not.
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
	r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab)}, Dial: func(ctx context.Context, address netip.AddrPort) (relay.Conn, error) {
		conn, err := dial(ctx, address)
		dialled <- conn
		return conn, err
	}})
	for name, want := range map[string]int{far: 33, api: 15} {
		c := connect(t, r)
		greeting := string(enginetest.HelloFor(name))
		write(t, c, greeting)
		conn := (<-dialled).(*net.TCPConn)
		near := <-u.near
		read(t, near, greeting)
		if got := idle(t, conn); got != want {
			t.Errorf("%s is probed after %d s, want %d", name, got, want)
		}
		_, _ = near.Close(), c.Close()
	}
}

func idle(t *testing.T, c *net.TCPConn) (seconds int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { seconds, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) })
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}
