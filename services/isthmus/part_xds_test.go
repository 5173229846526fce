package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/demo"
	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
)

// heldSource is a source that has nothing before it is let go.
type heldSource struct {
	identity.Source
	let chan struct{}
}

func (s heldSource) Follow(ctx context.Context, name identity.Name, handle func(*identity.Identity, error)) error {
	select {
	case <-s.let:
		return s.Source.Follow(ctx, name, handle)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// statusUntil reads the status of dc1 again and again, until it is as wanted.
func statusUntil(t *testing.T, log bus.Log, wanted func(*history.Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		last, err := history.StatusAt(ctx, log, "dc1", time.Now())
		switch {
		case err == nil && wanted(last):
			return
		case err != nil && !errors.Is(err, bus.ErrNoStream):
			t.Fatal(err)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("the status is %+v, %v", last, err)
		}
	}
}

// An xds node with a certificate: it says what it waits for, serves each Envoy its own,
// reports what that has, and says when it stops.
func TestXDSNodeWithACertificate(t *testing.T) {
	catalog := t.TempDir()
	if err := os.CopyFS(catalog, demo.Catalog()); err != nil {
		t.Fatal(err)
	}
	ca, err := identity.NewDevCA(identity.DevCAConfig{})
	if err != nil {
		t.Fatal(err)
	}
	address := freeport.Hold(t).String()
	log := memlog.New(memlog.Options{})
	p := testParts(t, log.Connect("test"))
	var table []role.Component
	for _, datacenter := range []string{"dc1", "dc2"} {
		w, err := watcherPart(p, watcherSettings{datacenter: datacenter, catalog: catalog, trustDomain: ca.TrustDomain()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := resolverPart(p, datacenter, 1)
		if err != nil {
			t.Fatal(err)
		}
		table = append(table, w, r)
	}
	source := heldSource{ca, make(chan struct{})}
	node, err := xdsPart(p, xdsSettings{datacenter: "dc1", listen: address, identity: source})
	if err != nil {
		t.Fatal(err)
	}
	if waits := node.Waiting(); !strings.Contains(waits, "isthmus-xds") || !strings.Contains(waits, identity.ErrNone.Error()) {
		t.Errorf("it waits for %q", waits)
	}
	runParts(t, table)
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, func() {}) }()
	close(source.let)

	statusUntil(t, log, func(*history.Status) bool { return node.Waiting() == "" })
	gateway := asGateway(t, ca, address, "mesh-gateway")
	if _, err := gateway.Await(t.Context(), func(s *client.Snapshot) bool { return len(s.Clusters) > 0 && len(s.Listeners) > 0 }); err != nil {
		t.Fatal(err)
	}
	statusUntil(t, log, func(s *history.Status) bool {
		for _, p := range s.Proxies {
			if p.Proxy == "dc1-gateway-1/mesh-gateway" {
				return p.Connected && strings.HasSuffix(p.XDSNode, "/"+address) && p.Behind != nil && p.Behind.Events == 0 && p.Version != "" && len(p.Basis) == 2
			}
		}
		return false
	})
	if _, err := asGateway(t, ca, address, "web").Await(t.Context(), func(*client.Snapshot) bool { return false }); err == nil || !strings.Contains(err.Error(), "PermissionDenied") {
		t.Errorf("what is the gateway's, web gets too: %v", err)
	}
	stop(context.Canceled)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	statusUntil(t, log, func(s *history.Status) bool {
		for _, p := range s.Proxies {
			if p.Proxy == "dc1-gateway-1/mesh-gateway" {
				return !p.Connected && len(p.Basis) == 2
			}
		}
		return false
	})
}

// asGateway asks for the first mesh gateway of dc1, as a service.
func asGateway(t *testing.T, ca *identity.DevCA, address, service string) *client.Client {
	t.Helper()
	leaf, err := ca.Issue(identity.Name{Service: &isthmusv1.ServiceRef{Name: service}, Datacenter: "dc1"})
	if err != nil {
		t.Fatal(err)
	}
	live := identity.NewLive(nil)
	live.Take(leaf, nil)
	node := isthmusv1.SPIFFEID(&isthmusv1.ServiceRef{Name: isthmusv1.ServiceXDS}, "dc1", ca.TrustDomain())
	c := client.New(client.Config{
		Address: address, TLS: live.ClientConfig("", []string{node}, identity.Parameters{}), ID: "mesh-gateway", Node: "dc1-gateway-1",
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}
