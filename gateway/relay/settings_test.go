package relay_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func TestLimitOfEachRoute(t *testing.T) {
	one, none := uint32(1), uint32(0)
	tab := tableTo("10.0.0.1:1")
	tab.Settings.MaxConnections = &one
	u := newUpstreams()
	r := start(t, relay.Config{Config: engine.Config{Table: func() *table.Table { return tab }}, Dial: u.dial(t)})
	first := connect(t, r)
	near := sayHello(t, first, u)
	refused := func() {
		t.Helper()
		second := connect(t, r)
		write(t, second, string(enginetest.HelloFor(api)))
		alert := hello.InternalError.Record()
		if got, err := io.ReadAll(second); string(got) != string(alert[:]) {
			t.Errorf("one too many reads %q (%v); want an alert", got, err)
		}
		_ = second.Close()
		if record := <-r.records; record.Reason != table.ReasonRouteLimit || record.Attempts != 0 {
			t.Errorf("the record says %+v", record)
		}
	}
	refused()
	_, _ = first.Close(), near.Close()
	<-r.records
	once(t, r, u)
	<-r.records
	changed := *tab
	changed.Settings.MaxConnections = &none
	tab = &changed
	refused()
}

// The time that an endpoint has: its route's, then the engine's as configured,
// then the registration's, then the engine's own.
func TestConnectTimeout(t *testing.T) {
	const route, configured, registered, own = 50 * time.Minute, 40 * time.Minute, 30 * time.Minute, 2 * time.Second
	for _, c := range []struct{ route, configured, registered, want time.Duration }{
		{route, configured, registered, route},
		{0, configured, registered, configured},
		{0, 0, registered, registered},
		{0, 0, 0, own},
	} {
		tab := tableTo("10.0.0.1:1")
		tab.Lookup([]byte(api)).ConnectTimeout = c.route
		tab.Settings.ConnectTimeout = c.registered
		left := make(chan time.Duration, 1)
		r := start(t, relay.Config{Config: engine.Config{Table: fixed(tab), ConnectTimeout: c.configured, Attempts: 1}, Dial: func(ctx context.Context, _ netip.AddrPort) (relay.Conn, error) {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			return nil, errors.New("refused by the test")
		}})
		write(t, connect(t, r), string(enginetest.HelloFor(api)))
		if got := <-left; got > c.want || got < c.want-time.Minute {
			t.Errorf("an endpoint has %v, want %v", got, c.want)
		}
	}
}
