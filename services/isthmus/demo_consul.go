package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// startConsul starts a Consul server for each datacenter of the world, federated,
// and writes the world's catalog into them: from there on they are the source of it
// and of the certificates.
func (d *demoRun) startConsul(ctx context.Context, dir string) error {
	binary, err := devagent.Find()
	if err != nil {
		return noConsul(err)
	}
	began := time.Now()
	d.printer.text("Consul starts as %d federated datacenters (%s) …\n", len(d.world.datacenters), binary)
	d.agents, err = devagent.StartFederation(ctx, devagent.Config{
		Binary: binary, Dir: filepath.Join(dir, "consul"), Logger: d.app.logger,
	}, d.world.datacenters...)
	if err != nil {
		return hint{err, "see that the binary is Consul 1.22 or newer and runs: " + binary + " version"}
	}
	d.world.agents = make(map[string]*consul.Client)
	for _, agent := range d.agents {
		client, err := consul.Open(consul.Options{
			Address:     agent.HTTP,
			Environment: func(string) string { return "" }, // The user's variables mean another Consul.
		})
		if err != nil {
			return err
		}
		d.world.agents[agent.Datacenter] = client
	}
	if d.world.trustDomain, err = d.agents[0].TrustDomain(ctx); err != nil {
		return err
	}
	d.printer.text("  ready after %s at %s\n", time.Since(began).Round(10*time.Millisecond), d.agents[0].HTTP)
	return d.fillConsul(ctx)
}

// noConsul is the error of a missing binary.
func noConsul(err error) error {
	return hint{err, "build it with deploy/tools/install.sh, name one by ISTHMUS_CONSUL_BINARY, or run isthmus demo, which needs none"}
}

// fillConsul writes the catalog into Consul: each registration in its datacenter,
// the config entries in the primary, from where they reach the others.
func (d *demoRun) fillConsul(ctx context.Context) error {
	loaded, err := loadCatalog(d.world.catalog, d.world.ca)
	if err != nil {
		return err
	}
	var entries []*isthmusv1.ConfigEntry
	nodes, instances := 0, 0
	for _, dc := range loaded.Datacenters {
		client := d.world.agents[dc.Name]
		byName := make(map[string]*isthmusv1.Node)
		for _, v := range dc.Values {
			if node, ok := v.Value.(*isthmusv1.Node); ok {
				byName[node.GetName()] = node
				nodes++
				if err := client.Register(ctx, node, nil); err != nil {
					return err
				}
			}
		}
		for _, v := range dc.Values {
			switch value := v.Value.(type) {
			case *isthmusv1.ServiceInstance:
				instances++
				if err := client.Register(ctx, byName[value.GetNode()], value); err != nil {
					return err
				}
			case *isthmusv1.ConfigEntry:
				if entries, err = withEntry(entries, value); err != nil {
					return err
				}
			}
		}
	}
	if err := d.writeEntries(ctx, entries...); err != nil {
		return err
	}
	d.printer.text("  %d nodes, %d instances and %d config entries written through its API\n\n", nodes, instances, len(entries))
	return nil
}

// withEntry adds an entry of one datacenter. Consul has one set for all of them.
func withEntry(entries []*isthmusv1.ConfigEntry, e *isthmusv1.ConfigEntry) ([]*isthmusv1.ConfigEntry, error) {
	i := slices.IndexFunc(entries, func(o *isthmusv1.ConfigEntry) bool { return o.GetKind() == e.GetKind() && o.GetName() == e.GetName() })
	switch {
	case i < 0:
		return append(entries, e), nil
	case proto.Equal(entries[i], e):
		return entries, nil
	}
	return nil, hint{
		fmt.Errorf("config entry %s/%s differs between the datacenters of the catalog", e.GetKind(), e.GetName()),
		"make it the same in all: federated Consul datacenters share their config entries",
	}
}

// writeEntries writes config entries in the primary, and waits until every
// datacenter has them.
func (d *demoRun) writeEntries(ctx context.Context, entries ...*isthmusv1.ConfigEntry) error {
	for _, e := range entries {
		if err := d.world.agents[d.world.datacenters[0]].WriteEntry(ctx, e); err != nil {
			return err
		}
	}
	for _, dc := range d.world.datacenters {
		for _, e := range entries {
			if err := awaitEntry(ctx, d.world.agents[dc], e); err != nil {
				return fmt.Errorf("%s/%s in %s: %w", e.GetKind(), e.GetName(), dc, err)
			}
		}
	}
	return nil
}

// awaitEntry waits until a datacenter has an entry of that kind and name.
func awaitEntry(ctx context.Context, client *consul.Client, e *isthmusv1.ConfigEntry) error {
	var q consul.Query
	for ctx.Err() == nil {
		all, answer, err := client.ConfigEntries(ctx, e.GetKind(), q)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o *isthmusv1.ConfigEntry) bool { return o.GetName() == e.GetName() }) {
			return nil
		}
		if q.Index = max(answer.Index, 1); answer.Index == 0 {
			return errors.New("the answer has no index")
		}
	}
	return context.Cause(ctx)
}

// setGlobalMode changes the mode of proxy-defaults where the catalog is.
func (d *demoRun) setGlobalMode(ctx context.Context, mode string) error {
	if d.world.agents == nil {
		return writeGlobalMode(d.world.catalog, mode, d.accessLogsText())
	}
	defaults := &isthmusv1.ProxyDefaults{MeshGateway: &isthmusv1.MeshGateway{Mode: mode}}
	if d.world.accessLogs {
		defaults.AccessLogs = demoAccessLogs()
	}
	return d.world.agents[d.world.datacenters[0]].WriteEntry(ctx, &isthmusv1.ConfigEntry{
		Kind: isthmusv1.EntryProxyDefaults, Name: "global", Entry: &isthmusv1.ConfigEntry_ProxyDefaults{ProxyDefaults: defaults},
	})
}

// place is what the catalog is written in, for people.
func (d *demoRun) place() string {
	if d.world.agents == nil {
		return "a file"
	}
	return "Consul"
}
