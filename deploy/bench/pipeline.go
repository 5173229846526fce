package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

const (
	// pipelineServices is the size of the catalog, pipelineEvents how many changes
	// are measured, one at a time.
	pipelineServices = 1000
	pipelineEvents   = 1000

	catalogStream = "CATALOG_dc1"
	routesStream  = "ROUTES_dc1"
	query         = "bench"
)

// applied says that the gateway has a table computed from this sequence of the
// catalog.
type applied struct {
	sequence uint64
	at       time.Time
}

// pipeline is a writer of a catalog, a resolver and a gateway's feed, joined by
// nothing but a NATS server on loopback, each with a connection of its own.
type pipeline struct {
	catalog *bus.Writer
	applied chan applied
	index   uint64
}

// benchPipeline measures from the append of one event to the gateway's table.
func benchPipeline(ctx context.Context, _ settings, scratch string, out io.Writer) ([]verdict, error) {
	server, err := embed.Start(embed.Options{StoreDir: filepath.Join(scratch, "nats")})
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()

	p := &pipeline{applied: make(chan applied, 2*pipelineEvents)}
	running, err := p.start(ctx, server.URL())
	if err != nil {
		return nil, err
	}
	defer func() {
		cancel()
		running.Wait()
	}()
	if err := p.fill(ctx); err != nil {
		return nil, err
	}
	var appends, whole []time.Duration
	for i := range pipelineEvents {
		appended, total, err := p.change(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		appends, whole = append(appends, appended), append(whole, total)
	}
	slices.Sort(appends)
	slices.Sort(whole)
	fmt.Fprintf(out, "\npipeline: %d events, one at a time, in a catalog of %d services; real JetStream, one connection per role\n\n", pipelineEvents, pipelineServices)
	fmt.Fprintf(out, "  %-44s p50 %8s   p99 %8s\n", "event append answered", micros(quantile(appends, 0.50)), micros(quantile(appends, 0.99)))
	fmt.Fprintf(out, "  %-44s p50 %8s   p99 %8s\n\n", "event append to gateway table applied", micros(quantile(whole, 0.50)), micros(quantile(whole, 0.99)))
	return nil, nil
}

func micros(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// start starts all roles, which end with the context.
func (p *pipeline) start(ctx context.Context, url string) (*sync.WaitGroup, error) {
	var logs [3]*bus.JetStream
	for i, name := range []string{"watcher", "resolver", "gateway"} {
		log, err := bus.Connect(url, bus.Options{Name: name})
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, log.Close)
		logs[i] = log
	}
	var err error
	if p.catalog, err = bus.NewWriter(bus.WriterConfig{Log: logs[0], Stream: catalogStream, Owner: "bench"}); err != nil {
		return nil, err
	}
	routes, err := bus.NewWriter(bus.WriterConfig{
		Log: logs[1], Stream: routesStream, Owner: "bench", RulesVersion: resolver.RulesVersion,
	})
	if err != nil {
		return nil, err
	}
	machine := resolver.New("dc1")
	resolve := &bus.Drive{
		Log: logs[1], Streams: []string{catalogStream}, Machine: machine, Wake: routes.Notify(),
		Emit: func(ctx context.Context, _ *isthmusv1.Basis) error { return emit(ctx, machine, routes) },
	}
	feed := gateway.NewFeed(table.Ejection{})
	follow := &bus.Drive{
		Log: logs[2], Streams: []string{routesStream},
		Machine: bus.MachineFunc(func(t *isthmusv1.Transaction) {
			feed.Apply(t)
			if position := t.End.GetBasis().At(catalogStream); position != nil {
				p.applied <- applied{position.GetSequence(), time.Now()}
			}
		}),
	}
	running := &sync.WaitGroup{}
	for _, run := range []func(context.Context) error{p.catalog.Run, routes.Run, resolve.Run, follow.Run} {
		running.Go(func() { _ = run(ctx) })
	}
	return running, nil
}

// emit writes what the machine says has changed. The bench's writer is alone
// with its stream, so it is never behind.
func emit(ctx context.Context, machine *resolver.Machine, routes *bus.Writer) error {
	if !routes.Active() {
		return nil // The round that Wake makes comes when it is.
	}
	update := machine.Ready()
	if update == nil {
		return nil
	}
	d := bus.Difference{Basis: update.Basis}
	for _, c := range update.Changes {
		if c.Value == nil {
			d.Deletes = append(d.Deletes, c.Key)
		} else {
			d.Puts = append(d.Puts, bus.Put{Key: c.Key, Value: c.Value})
		}
	}
	_, err := routes.Write(ctx, d)
	return err
}

// fill writes the first catalog and waits until the gateway has it.
func (p *pipeline) fill(ctx context.Context) error {
	for !p.catalog.Active() {
		select {
		case <-p.catalog.Notify():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	puts := []bus.Put{
		p.put(isthmusv1.MeshFactsKey(), &isthmusv1.MeshFacts{
			Datacenter: "dc1", TrustDomain: trustDomain, DefaultIntentionPolicy: "allow", KnownDatacenters: []string{"dc1"},
		}),
		p.put(isthmusv1.NodeKey("", "node"), &isthmusv1.Node{Name: "node", Address: "127.0.0.1"}),
	}
	for i := range pipelineServices {
		puts = append(puts, p.instance(i, 1))
	}
	position, err := p.catalog.Write(ctx, bus.Difference{Puts: puts, Complete: true})
	if err != nil {
		return err
	}
	_, err = p.wait(ctx, position.GetSequence())
	return err
}

// change writes one instance's new weight and waits for the gateway's table. It
// returns how long the log took to answer, and how long it all took.
func (p *pipeline) change(ctx context.Context, i int) (appended, total time.Duration, err error) {
	put := p.instance(i%pipelineServices, uint32(2+i/pipelineServices))
	begin := time.Now()
	position, err := p.catalog.Write(ctx, bus.Difference{Puts: []bus.Put{put}})
	if err != nil {
		return 0, 0, err
	}
	appended = time.Since(begin)
	at, err := p.wait(ctx, position.GetSequence())
	return appended, at.Sub(begin), err
}

// errNothingCame says that the gateway's table did not follow.
var errNothingCame = errors.New("the gateway's table did not follow in time")

// wait takes what the gateway reports until it has a table of the sequence.
func (p *pipeline) wait(ctx context.Context, sequence uint64) (time.Time, error) {
	timeout := time.After(30 * time.Second)
	for {
		select {
		case a := <-p.applied:
			if a.sequence >= sequence {
				return a.at, nil
			}
		case <-timeout:
			return time.Time{}, errNothingCame
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// put is a value as seen at the next index of the one query of the bench.
func (p *pipeline) put(key isthmusv1.Key, value proto.Message) bus.Put {
	p.index++
	return bus.Put{Key: key, Value: value, Source: &isthmusv1.Source{Query: query, IndexAfter: p.index - 1, IndexAt: p.index}}
}

// instance is the sidecar of one service.
func (p *pipeline) instance(i int, weight uint32) bus.Put {
	name := fmt.Sprintf("service-%d", i)
	m := &isthmusv1.ServiceInstance{
		Node: "node", Id: name + "-sidecar-proxy", Name: name + "-sidecar-proxy", Kind: isthmusv1.InstanceKindProxy,
		Port: uint32(20_000 + i), Weights: &isthmusv1.Weights{Passing: weight},
		Proxy: &isthmusv1.Proxy{DestinationServiceName: name},
	}
	return p.put(isthmusv1.InstanceKey("", m.GetNode(), "", m.GetId()), m)
}
