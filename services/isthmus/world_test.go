package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// A node may run two gateways, and two instances of one service: each part of a
// world still has a name and a folder of its own.
func TestPartsOfOneNodeAreToldApart(t *testing.T) {
	dir := t.TempDir()
	catalog := filepath.Join(dir, "catalog")
	for name, text := range map[string]string{
		"dc1/node/agent.hcl": `node_name = "node"
advertise_addr = "127.77.0.10"`,
		"dc1/node/gateways.hcl": `services = [
  { id = "first", name = "mesh-gateway", kind = "mesh-gateway", port = 8443 },
  { id = "second", name = "mesh-gateway", kind = "mesh-gateway", port = 8444 },
]`,
		"dc1/node/api.hcl": `services = [
  { id = "api-1", name = "api", port = 8081, connect { sidecar_service { port = 21001 } } },
  { id = "api-2", name = "api", port = 8082, connect { sidecar_service { port = 21002 } } },
]`,
		"dc1/other/agent.hcl": `node_name = "other"
advertise_addr = "127.77.0.20"`,
		"dc1/other/gateway.hcl": `service { name = "mesh-gateway", kind = "mesh-gateway", port = 8443 }`,
	} {
		path := filepath.Join(catalog, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca, err := identity.NewDevCA(identity.DevCAConfig{})
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(io.Discard, t.Output(), func(string) string { return "" })
	a.logger = slog.New(slog.DiscardHandler)
	w, err := newWorld(a, catalog, dir, ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	var gateways []string
	for _, g := range w.gateways {
		gateways = append(gateways, g.name)
	}
	if want := []string{"node/first", "node/second", "other"}; !slices.Equal(gateways, want) {
		t.Errorf("gateways %q, want %q", gateways, want)
	}
	table, err := w.table()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, component := range table {
		names = append(names, component.Name)
	}
	slices.Sort(names)
	if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
		t.Errorf("two parts have one name: %q", names)
	}
}
