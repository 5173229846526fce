package consul_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/watcher"
	consulsource "github.com/isthmus-mesh/isthmus/watcher/consul"
)

const stream = "CATALOG_dc1"

// patience bounds a wait that only a failure reaches.
const patience = 60 * time.Second

// object is JSON to send.
type object map[string]any

// world is a log with watchers on it.
type world struct {
	t   *testing.T
	log *memlog.Log
	// wait is how long queries block; 0: as in production.
	wait time.Duration
	// poll is how often sources ask for what cannot block, list for the nodes.
	poll, list time.Duration
	// readers read Consul anew, by address and token; an agent takes 200 connections.
	readers map[string]*consul.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, log: memlog.New(memlog.Options{Seed: 1}), poll: 200 * time.Millisecond, list: 50 * time.Millisecond, readers: map[string]*consul.Client{}}
}

// process is a watcher that runs.
type process struct {
	*watcher.Watcher
	source *consulsource.Source
	stop   func()
	ended  chan struct{}
	err    error // once ended
}

// over is what the watcher ended with; nil: it runs.
func (p *process) over() error {
	select {
	case <-p.ended:
		return p.err
	default:
		return nil
	}
}

func open(t *testing.T, options consul.Options) *consul.Client {
	t.Helper()
	options.Environment = func(string) string { return "" }
	client, err := consul.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (w *world) newSource(datacenter string, client *consul.Client) *consulsource.Source {
	w.t.Helper()
	source, err := consulsource.New(consulsource.Options{
		Client: client, Datacenter: datacenter, Wait: w.wait, ListInterval: w.list, PollInterval: w.poll,
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return source
}

// watch starts a watcher that ends with the test.
func (w *world) watch(name string, options consul.Options) *process {
	w.t.Helper()
	return w.watchNamed(name, "", options)
}

func (w *world) watchNamed(name, datacenter string, options consul.Options) *process {
	w.t.Helper()
	source := w.newSource(datacenter, open(w.t, options))
	client := w.log.Connect(name)
	wat, err := watcher.New(watcher.Config{
		Datacenter: "dc1", Source: source, Writer: bus.WriterConfig{Log: client, Owner: name},
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)).With("watcher", name), RetryAfter: 100 * time.Millisecond,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	p := &process{Watcher: wat, source: source, ended: make(chan struct{})}
	p.stop = func() { cancel(); <-p.ended }
	go func() {
		defer close(p.ended)
		p.err = wat.Run(ctx)
	}()
	w.t.Cleanup(p.stop)
	return p
}

// events are the messages of the log but those of its writers.
func (w *world) events() []bus.Message {
	w.t.Helper()
	if _, err := w.log.State(w.t.Context(), stream); err != nil {
		return nil // Not made yet.
	}
	var out []bus.Message
	for m, err := range w.log.History(w.t.Context(), stream, 0, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Key != isthmusv1.WriterKey() {
			out = append(out, m)
		}
	}
	return out
}

// tombstones are the keys that ended after the first n events.
func (w *world) tombstones(n int) []string {
	w.t.Helper()
	var out []string
	for _, m := range w.events()[n:] {
		r := new(isthmusv1.Record)
		if err := proto.Unmarshal(m.Record, r); err != nil {
			w.t.Fatal(err)
		}
		if r.GetTombstone() {
			out = append(out, m.Key.String())
		}
	}
	slices.Sort(out)
	return out
}

// wantTombstones fails if anything but the keys ended after the first n events.
func (w *world) wantTombstones(n int, keys ...string) {
	w.t.Helper()
	if got := w.tombstones(n); !slices.Equal(got, keys) {
		w.t.Errorf("tombstones %v, want %v", got, keys)
	}
}

// rebuilt is the catalog that readers have of the log.
func (w *world) rebuilt() map[isthmusv1.Key][]byte {
	w.t.Helper()
	now, err := w.log.State(w.t.Context(), stream)
	if err != nil {
		return nil // Not made yet.
	}
	whole, err := bus.StateAt(w.t.Context(), w.log, stream, now.Last)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[isthmusv1.Key][]byte{}
	for _, c := range whole.Changes {
		if c.Key != isthmusv1.WriterKey() {
			out[c.Key] = c.Bytes
		}
	}
	return out
}

// reader is a client for fresh readings.
func (w *world) reader(options consul.Options) *consul.Client {
	if w.readers[options.Address+options.Token] == nil {
		w.readers[options.Address+options.Token] = open(w.t, options)
	}
	return w.readers[options.Address+options.Token]
}

// fresh is what Consul says now, read by a source that has seen nothing before.
func (w *world) fresh(options consul.Options) map[isthmusv1.Key][]byte {
	w.t.Helper()
	states, err := w.newSource("", w.reader(options)).ReadAll(w.t.Context())
	if err != nil {
		w.t.Logf("a fresh reading: %v", err)
		return nil
	}
	out := map[isthmusv1.Key][]byte{}
	for _, state := range states {
		for _, v := range state.Values {
			value, err := isthmusv1.Marshal(v.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			out[v.Key] = value
		}
	}
	return out
}

// wantEqual waits until the catalog rebuilt from the log equals a fresh reading of
// Consul, byte for byte.
func (w *world) wantEqual(options consul.Options) {
	w.t.Helper()
	var difference string
	w.eventually(func() bool {
		difference = differ(w.rebuilt(), w.fresh(options))
		return difference == ""
	}, func() string { return "the log does not become equal to Consul:\n" + difference })
}

func differ(log, fresh map[isthmusv1.Key][]byte) string {
	if log == nil || fresh == nil {
		return "one of the two cannot be read"
	}
	var out []string
	for key, value := range fresh {
		if had, ok := log[key]; !ok {
			out = append(out, key.String()+" is not in the log")
		} else if !bytes.Equal(had, value) {
			out = append(out, fmt.Sprintf("%s is %q in the log, %q in Consul", key, had, value))
		}
	}
	for key := range log {
		if _, ok := fresh[key]; !ok {
			out = append(out, key.String()+" is only in the log")
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// eventually looks again and again until it is so.
func (w *world) eventually(so func() bool, why func() string) {
	w.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !so() {
		select {
		case <-again.C:
		case <-late.C:
			w.t.Fatal(why())
		}
	}
}

// put sends an object to an agent.
func put(t *testing.T, agent *devagent.Agent, path string, body any) {
	t.Helper()
	if err := agent.Call(t.Context(), http.MethodPut, path, body, nil); err != nil {
		t.Fatal(err)
	}
}

// register puts a service of a node without an agent into the catalog.
func register(t *testing.T, agent *devagent.Agent, node, service string, port int) {
	t.Helper()
	put(t, agent, "/v1/catalog/register", object{
		"Node": node, "Address": "10.0.0.1", "SkipNodeUpdate": false,
		"Service": object{"ID": service, "Service": service, "Port": port},
	})
}

func deregister(t *testing.T, agent *devagent.Agent, node, service string) {
	t.Helper()
	put(t, agent, "/v1/catalog/deregister", object{"Node": node, "ServiceID": service})
}

// instancePorts are the ports that the log says of each instance, over time.
func (w *world) instancePorts() map[string][]uint32 {
	w.t.Helper()
	out := map[string][]uint32{}
	for _, m := range w.events() {
		r, i := new(isthmusv1.Record), new(isthmusv1.ServiceInstance)
		if err := proto.Unmarshal(m.Record, r); err != nil {
			w.t.Fatal(err)
		}
		if m.Key.Kind != isthmusv1.KindInstance || r.GetTombstone() {
			continue
		}
		if err := proto.Unmarshal(r.GetValue(), i); err != nil {
			w.t.Fatal(err)
		}
		out[i.GetNode()+"/"+i.GetId()] = append(out[i.GetNode()+"/"+i.GetId()], i.GetPort())
	}
	return out
}
