package oracle_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// lookEvery is how often an Envoy is asked again, which tells nobody of a change.
const lookEvery = 50 * time.Millisecond

// untilSo asks until there is no error, which only a failure does for long.
func untilSo(t *testing.T, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, last)
		}
	}
}

// conformance is a world with an xds node of dc1.
type conformance struct {
	*world
	envoy string
	node  bootstrap.HostPort
	// host is an address of this machine that nobody else listens at.
	host netip.Addr

	mu sync.Mutex
	// met are the rows that a case has met.
	met map[string]bool
}

// TestResourcesAgree holds our resources against Consul's own for the same
// registrations, as they are sent and as a real Envoy runs them: nothing differs but
// what deploy/docs/differences.md has a row for.
func TestResourcesAgree(t *testing.T) {
	c := &conformance{envoy: envoytest.Need(t), met: map[string]bool{}}
	c.world = newWorld(t, devagent.Config{})
	address, err := netip.ParseAddrPort(strings.TrimPrefix(c.dc1.HTTP, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	c.host = address.Addr()
	c.serve(t)
	t.Run("mesh gateways", c.meshGateways)
	t.Run("sidecars", c.sidecars)
	t.Run("switching", c.switching)
	t.Run("rows of the guide", c.rows)
}

// serve runs an xds node of dc1, as `isthmus xds` does.
func (c *conformance) serve(t *testing.T) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	server := ads.NewServer(ads.Config{Logger: logger})
	drive := &bus.Drive{
		Log: c.log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, "dc1")},
		Machine: bus.MachineFunc(server.Apply), Emit: server.Emit, Logger: logger,
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(listener.Addr().String())
	c.node = bootstrap.HostPort{Host: at.Addr().String(), Port: at.Port()}
	part(t, "the xds node's reader", drive.Run)
	part(t, "the xds node", func(ctx context.Context) error { return server.Serve(ctx, listener) })
}

// conforming is a proxy of dc1 that is compared.
type conforming struct {
	proxy instance
	// listeners are how many it has.
	listeners int
	// meets are the rows of the guide by which it differs from Consul's, each at least
	// once.
	meets []string
	// known is the row of differences in fields that begin so, which resources do not tell
	// and this case knows.
	known map[string]string
	// unloadable: an Envoy does not run Consul's own, or not beside ours, so that it is
	// compared as it is sent. Ours is loaded all the same.
	unloadable bool
}

// agree compares a proxy as it is sent, and as Envoys run it.
func (c *conformance) agree(t *testing.T, p conforming) {
	t.Helper()
	c.include(t)
	node := p.proxy.node
	if node == "" {
		node = p.proxy.agent.Node
	}
	their := open(t, p.proxy.agent, p.proxy.node, p.proxy.id)
	our := c.ours(t, node, p.proxy.id)
	untilSo(t, p.proxy.id+" as it is sent", func(context.Context) error {
		a, b := our.Snapshot(), their.Snapshot()
		if !a.Complete() || len(a.Listeners) != p.listeners || len(b.Listeners) != p.listeners || !p.unloadable && !b.Complete() {
			return fmt.Errorf("not all was sent: ours %+v\nConsul %+v", a, b)
		}
		return p.judge(compare.Resources(compare.Set(a.Bodies), compare.Set(b.Bodies), c.facts(node, p.proxy.id)))
	})
	c.agreeLoaded(t, node, p)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range p.meets {
		c.met[row] = true
	}
}

func (c *conformance) agreeLoaded(t *testing.T, node string, p conforming) {
	t.Helper()
	our := c.ourEnvoy(t, c.envoy, p.proxy, c.node, nil)
	all := []*envoy{our}
	if !p.unloadable {
		all = append(all, c.theirEnvoy(t, c.envoy, p.proxy, nil))
	}
	untilSo(t, p.proxy.id+" as Envoys run it", func(ctx context.Context) error {
		sets := map[*envoy]compare.Set{}
		for _, e := range all {
			set, err := e.loaded(ctx)
			if err != nil {
				return err
			}
			if n := len(set["type.googleapis.com/envoy.config.listener.v3.Listener"]); n != p.listeners {
				return fmt.Errorf("%d listeners run instead of %d", n, p.listeners)
			}
			if refused, err := e.refused(ctx); err != nil || refused != "" {
				return fmt.Errorf("refused: %s (%w)", refused, err)
			}
			sets[e] = set
		}
		if p.unloadable {
			return nil
		}
		return p.judge(compare.Resources(sets[our], sets[all[1]], c.facts(node, p.proxy.id)))
	})
}

// judge says what is wrong with differences.
func (p conforming) judge(all []compare.Difference) error {
	var wrong []error
	met := map[string]bool{}
	for _, d := range all {
		for field, row := range p.known {
			if strings.HasPrefix(d.Field, field) {
				d.Intended = row
			}
		}
		met[d.Intended] = true
		if d.Intended == "" || !slices.Contains(p.meets, d.Intended) {
			wrong = append(wrong, fmt.Errorf("%s %s %s: ours %q, Consul's %q (%s)", d.Type, d.Name, d.Field, d.Ours, d.Theirs, d.Intended))
		}
	}
	for _, row := range p.meets {
		if !met[row] {
			wrong = append(wrong, fmt.Errorf("nothing differs by %q", row))
		}
	}
	return errors.Join(wrong...)
}

// ours follows what our xds node serves, once it has read of the proxy.
func (c *conformance) ours(t *testing.T, node, id string) *client.Client {
	t.Helper()
	var out *client.Client
	untilSo(t, id+" is not served", func(ctx context.Context) error {
		out = opened(t, client.Config{Address: net.JoinHostPort(c.node.Host, fmt.Sprint(c.node.Port)), ID: id, Node: node})
		_, err := out.Await(ctx, (*client.Snapshot).Answered)
		return err
	})
	return out
}

// facts are what our routes say of a proxy.
func (c *conformance) facts(node, id string) compare.Facts {
	var out compare.Facts
	c.routes.look(func() {
		p, _ := c.routes.values[isthmusv1.ProxyKey("", node, "", id)].(*isthmusv1.ProxyRoutes)
		set, _ := c.routes.values[isthmusv1.RouteSetKey(p.GetService(), p.GetRoutesetHash())].(*isthmusv1.RouteSet)
		out = compare.FactsOf(set)
	})
	return out
}

// rows: each row that a difference of resources may name is in the guide, and was met.
func (c *conformance) rows(t *testing.T) {
	text, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range append(compare.Rows(), exactSource) {
		if !strings.Contains(string(text), "| **"+row+"** |") {
			t.Errorf("deploy/docs/differences.md has no row %q", row)
		}
		if !c.met[row] {
			t.Errorf("no case has met the row %q", row)
		}
	}
}
