package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/demo"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/role"
)

func testParts(t *testing.T, log bus.Log) parts {
	return parts{
		log:        log,
		owner:      t.Name(),
		logger:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		registerer: prometheus.NewRegistry(),
	}
}

// runParts runs a table until the test ends.
func runParts(t *testing.T, table []role.Component) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- role.Run(ctx, table, role.Options{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the parts ended with %v", err)
		}
	})
}

func TestFilesBecomeRoutes(t *testing.T) {
	catalog := t.TempDir()
	if err := os.CopyFS(catalog, demo.Catalog()); err != nil {
		t.Fatal(err)
	}
	p := testParts(t, memlog.New(memlog.Options{}).Connect("test"))
	var table []role.Component
	for _, datacenter := range []string{"dc1", "dc2"} {
		w, err := watcherPart(p, watcherSettings{datacenter: datacenter, catalog: catalog, trustDomain: "test.consul"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := resolverPart(p, datacenter, 1)
		if err != nil {
			t.Fatal(err)
		}
		table = append(table, w, r)
	}
	runParts(t, table)

	ctx, stop := context.WithCancel(t.Context())
	paths := make(map[string]string)
	drive := &bus.Drive{
		Log:     p.log,
		Streams: []string{"ROUTES_dc1"},
		Machine: bus.MachineFunc(func(tx *isthmusv1.Transaction) {
			for _, c := range tx.Changes {
				set, ok := c.Value.(*isthmusv1.RouteSet)
				if !ok {
					continue
				}
				for _, route := range set.GetRoutes() {
					for _, target := range route.GetTargets() {
						paths[target.GetService().GetName()] = target.GetPath().Name()
					}
				}
			}
		}),
		Emit: func(context.Context, *isthmusv1.Basis) error {
			if paths["api"] == "remote-gateway" && paths["db"] == "local-gateway" && paths["logging"] == "direct" && paths["search"] == "local-gateway" {
				stop()
			}
			return nil
		},
	}
	if err := drive.Run(ctx); !errors.Is(err, context.Canceled) || t.Context().Err() != nil {
		t.Errorf("paths %v, %v", paths, err)
	}
}
