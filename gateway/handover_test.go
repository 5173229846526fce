//go:build unix

package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// descriptors counts the open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// socketPath is short: the path of a unix socket has a hundred bytes or so.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "handover")
}

// Clients ask all the time, on new connections and without a second try, while
// one gateway follows the other: every one is answered.
func TestHandoverUnderLoadLosesNoConnection(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	cfg := gateway.Config{Log: r.log, HandoverSocket: socketPath(t), StateDir: t.TempDir()}
	g := run(t, cfg)
	mustAsk(t, g, "one")
	// What is kept for later (a pipe, an epoll) is there after one connection.
	before := descriptors(t)
	address := g.Addresses()[0]

	var answered, failed atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := ask(address); err != nil || got != "one" {
					failed.Add(1)
					t.Errorf("answered %q (%v)", got, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	const handovers = 5
	for range handovers {
		next := run(t, cfg)
		if err := <-g.ended; !errors.Is(err, gateway.ErrHandedOver) {
			t.Fatalf("the predecessor ended with %v", err)
		}
		if next.Addresses()[0] != address {
			t.Fatalf("the successor listens on %s; want %s", next.Addresses()[0], address)
		}
		mustAsk(t, next, "one")
		g = next
	}
	close(stop)
	load.Wait()
	t.Logf("%d connections over %d hand-overs", answered.Load(), handovers)
	if failed.Load() != 0 || answered.Load() < handovers {
		t.Errorf("%d answered, %d failed", answered.Load(), failed.Load())
	}
	g.Engine().Drain(t.Context())
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// A connection that was open at the predecessor goes on there until it ends.
func TestHandoverLeavesOpenConnections(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	cfg := gateway.Config{Log: r.log, HandoverSocket: socketPath(t)}
	first := run(t, cfg)
	open := halfAsk(t, first)
	mustAsk(t, first, "one")
	second := run(t, cfg)
	mustAsk(t, second, "one")
	if got := open(); got != "one" {
		t.Errorf("the open connection was answered %q", got)
	}
	if err := <-first.ended; !errors.Is(err, gateway.ErrHandedOver) {
		t.Errorf("the predecessor ended with %v", err)
	}
}

// From the moment on that a successor has taken over, the reports under their
// common name are the successor's alone, however long the predecessor drains.
func TestAPredecessorThatDrainsReportsNothing(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	handedOver := make(chan struct{})
	cfg := gateway.Config{Log: r.log, HandoverSocket: socketPath(t), Name: "gw1", StatusInterval: time.Millisecond}
	ofFirst := cfg
	ofFirst.AdminAddress, ofFirst.OnHandedOver = "first", func() { close(handedOver) }
	first := run(t, ofFirst)
	open := halfAsk(t, first)
	mustAsk(t, first, "one")
	second := run(t, cfg)
	<-handedOver
	// For a moment both accept.
	for second.Engine().Stats().Accepted < 2 {
		mustAsk(t, second, "one")
	}
	awaitStatus(t, r.log, func(g *isthmusv1.GatewayStatus) bool {
		if g.GetAdminAddress() == "first" && g.GetState() != string(gateway.StateServing) {
			t.Errorf("the predecessor reported that it is %s", g.GetState())
		}
		return g.GetAdminAddress() != "first" && g.GetConnectionsTotal() >= 2
	})
	if got := open(); got != "one" {
		t.Errorf("the open connection was answered %q", got)
	}
	if err := <-first.ended; !errors.Is(err, gateway.ErrHandedOver) {
		t.Errorf("the predecessor ended with %v", err)
	}
}

// A successor with another set of addresses takes over those that it shares.
func TestHandoverOfSomeAddresses(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	path := socketPath(t)
	first := run(t, gateway.Config{Log: r.log, HandoverSocket: path, Listen: []string{"127.0.0.1:0", "127.0.0.2:0"}})
	mustAsk(t, first, "one")
	shared := first.Addresses()[1]
	second := run(t, gateway.Config{Log: r.log, HandoverSocket: path, Listen: []string{"127.0.0.3:0", shared}})
	if err := <-first.ended; !errors.Is(err, gateway.ErrHandedOver) {
		t.Errorf("the predecessor ended with %v", err)
	}
	if second.Addresses()[1] != shared {
		t.Errorf("the successor listens on %v; want %s among them", second.Addresses(), shared)
	}
	for _, address := range second.Addresses() {
		if got, err := ask(address); err != nil || got != "one" {
			t.Errorf("%s answered %q (%v)", address, got, err)
		}
	}
	if _, err := net.Dial("tcp", first.Addresses()[0]); err == nil {
		t.Error("an address that nobody wants is still bound")
	}
}

// A successor that goes away before it is ready has changed nothing, whatever it
// said.
func TestASuccessorThatGoesAwayChangesNothing(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	path := socketPath(t)
	g := run(t, gateway.Config{Log: r.log, HandoverSocket: path})
	mustAsk(t, g, "one")
	// The socket is bound once the first has served: the next test of it waits
	// for that in the successor; here it is waited for by its name.
	for _, said := range []string{"", "nonsense\n", `{"version":7}` + "\n", `{"version":1}` + "\n", `{"version":1}` + "\n" + `{"ready":false}` + "\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said, "7") {
			if line, _ := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, "version 7 was asked for; this is version 1") {
				t.Errorf("another version was answered %q", line)
			}
		}
		_ = c.Close()
		mustAsk(t, g, "one")
	}
	// And a real one can still come.
	next := run(t, gateway.Config{Log: r.log, HandoverSocket: path})
	mustAsk(t, next, "one")
	if err := <-g.ended; !errors.Is(err, gateway.ErrHandedOver) {
		t.Errorf("ended with %v", err)
	}
}

// A predecessor that does not keep to the protocol is an error, not a guess.
func TestAPredecessorThatIsNone(t *testing.T) {
	for _, says := range []string{"", "nonsense\n", `{"version":2}` + "\n", `{"version":1,"error":"no"}` + "\n", `{"version":1,"listeners":["127.0.0.1:1"]}` + "\n."} {
		t.Run(says, func(t *testing.T) {
			path := socketPath(t)
			socket, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			var server sync.WaitGroup
			defer server.Wait()
			server.Go(func() {
				c, err := socket.Accept()
				if err != nil {
					return
				}
				_, _ = bufio.NewReader(c).ReadString('\n')
				_, _ = fmt.Fprint(c, says)
				_ = c.Close()
			})
			g := run(t, gateway.Config{Log: newRoutes(t).log, HandoverSocket: path})
			if err := <-g.ended; !errors.Is(err, gateway.ErrHandover) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// A socket that a gateway left behind when it died is nobody.
func TestASocketLeftBehind(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	path := socketPath(t)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	g := run(t, gateway.Config{Log: r.log, HandoverSocket: path})
	mustAsk(t, g, "one")
}
