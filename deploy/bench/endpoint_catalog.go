package main

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// writeTo opens the catalog for writing, until the context ends.
func (p *pipeline) writeTo(ctx context.Context, url string) error {
	log, err := bus.Connect(url, bus.Options{Name: "bench"})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, log.Close)
	if p.catalog, err = bus.NewWriter(bus.WriterConfig{Log: log, Stream: catalogStream, Owner: "bench"}); err != nil {
		return err
	}
	go func() { _ = p.catalog.Run(ctx) }()
	for !p.catalog.Active() {
		select {
		case <-p.catalog.Notify():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// fill writes a sidecar for each service, which uses the next one.
func (w *endpointWorld) fill(ctx context.Context) error {
	puts := []bus.Put{
		w.writing.put(isthmusv1.MeshFactsKey(), &isthmusv1.MeshFacts{
			Datacenter: "dc1", TrustDomain: trustDomain, DefaultIntentionPolicy: "allow", KnownDatacenters: []string{"dc1"},
		}),
		w.writing.put(isthmusv1.NodeKey("", "node"), &isthmusv1.Node{Name: "node", Address: "127.0.0.1"}),
	}
	for i := range w.services {
		puts = append(puts, w.instance(i, "10.0.0.1"))
	}
	_, err := w.writing.catalog.Write(ctx, bus.Difference{Puts: puts, Complete: true})
	return err
}

func sidecarID(service int) string { return fmt.Sprintf("service-%d-sidecar-proxy", service) }

// instance is the sidecar of a service at an address.
func (w *endpointWorld) instance(service int, address string) bus.Put {
	m := &isthmusv1.ServiceInstance{
		Node: "node", Id: sidecarID(service), Name: sidecarID(service), Kind: isthmusv1.InstanceKindProxy, Address: address, Port: 21_000,
		Proxy: &isthmusv1.Proxy{
			DestinationServiceName: fmt.Sprintf("service-%d", service), LocalServicePort: 8080,
			Upstreams: []*isthmusv1.Upstream{{DestinationName: fmt.Sprintf("service-%d", (service+1)%w.services), LocalBindPort: 9000}},
		},
	}
	return w.writing.put(isthmusv1.InstanceKey("", m.GetNode(), "", m.GetId()), m)
}

// change gives one instance another address, and waits until the sidecar that uses it has
// acknowledged that.
func (w *endpointWorld) change(ctx context.Context, n int) error {
	address := fmt.Sprintf("10.%d.%d.77", 1+n/250, n%250)
	sought := w.crowd.seek(address, 1, 1)
	put := w.instance(w.used(n), address)
	begin := time.Now()
	if _, err := w.writing.catalog.Write(ctx, bus.Difference{Puts: []bus.Put{put}}); err != nil {
		return err
	}
	at, err := sought.all.wait(ctx, waitAll)
	if err != nil {
		return err
	}
	w.took = append(w.took, at[0].Sub(begin))
	return nil
}
