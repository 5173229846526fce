package history_test

import (
	"bytes"
	"context"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

var update = flag.Bool("update", false, "write the golden files anew")

const trustDomain = "td.consul"

// world is two datacenters on a log in memory: what their files say is written
// as their watchers would, and the routes of dc1 as its resolver would.
type world struct {
	t       testing.TB
	log     *memlog.Log
	writers map[string]*bus.Writer
	stops   map[string]func()
	values  map[string]map[isthmusv1.Key]proto.Message
}

// newWorld makes one. End it with stop; maxMessages is W of all streams, 0 for
// the default.
func newWorld(t testing.TB, maxMessages int64) *world {
	t.Helper()
	w := &world{
		t: t, log: memlog.New(memlog.Options{Seed: 1}), writers: map[string]*bus.Writer{},
		stops: map[string]func(){}, values: map[string]map[isthmusv1.Key]proto.Message{},
	}
	for _, stream := range []string{"CATALOG_dc1", "CATALOG_dc2", "ROUTES_dc1"} {
		w.start(stream, bus.WriterConfig{RulesVersion: resolver.RulesVersion, MaxMessages: maxMessages})
	}
	return w
}

// start starts the writer of a stream, which replaces the one before.
func (w *world) start(stream string, config bus.WriterConfig) {
	w.t.Helper()
	if stop := w.stops[stream]; stop != nil {
		stop()
	}
	config.Log, config.Stream, config.Owner = w.log, stream, "test"
	config.TakeoverAfter, config.BasisInterval = time.Millisecond, time.Nanosecond
	writer, err := bus.NewWriter(config)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	notify := writer.Notify()
	go func() {
		defer close(ended)
		_ = writer.Run(ctx)
	}()
	for !writer.Active() {
		<-notify
	}
	w.writers[stream] = writer
	w.stops[stream] = func() {
		cancel()
		<-ended
	}
}

// stop stops all writers.
func (w *world) stop() {
	for _, stop := range w.stops {
		stop()
	}
}

// write makes the files all that a datacenter's catalog says, in one
// transaction, and returns where that left the log.
func (w *world) write(dc string, files map[string]string) *isthmusv1.Position {
	w.t.Helper()
	var parsed []definition.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		parsed = append(parsed, definition.File{Name: name, Data: []byte(files[name])})
	}
	catalog := definition.Parse(parsed, definition.Options{Datacenter: dc, TrustDomain: trustDomain, KnownDatacenters: []string{"dc1", "dc2"}})
	if catalog.HasErrors() {
		w.t.Fatalf("%s: %v", dc, catalog.Problems)
	}
	next := map[isthmusv1.Key]proto.Message{}
	var d bus.Difference
	d.Complete = true
	for _, v := range catalog.Values {
		next[v.Key] = v.Message
		if old := w.values[dc][v.Key]; old == nil || !proto.Equal(old, v.Message) {
			d.Puts = append(d.Puts, bus.Put{Key: v.Key, Value: v.Message, Source: v.Source})
		}
	}
	for key := range w.values[dc] {
		if next[key] == nil {
			d.Deletes = append(d.Deletes, key)
		}
	}
	isthmusv1.SortKeys(d.Deletes)
	w.values[dc] = next
	position, err := w.writers["CATALOG_"+dc].WriteFrom(w.t.Context(), func(context.Context) (bus.Difference, error) { return d, nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return position
}

// resolve writes the routes of dc1 as of now, resolved from scratch.
func (w *world) resolve() {
	w.t.Helper()
	machine, basis := resolver.New("dc1"), new(isthmusv1.Basis)
	for _, stream := range []string{"CATALOG_dc1", "CATALOG_dc2"} {
		if w.values[stream[len("CATALOG_"):]] == nil {
			continue
		}
		state, err := w.log.State(w.t.Context(), stream)
		if err != nil {
			w.t.Fatal(err)
		}
		t, err := bus.StateAt(w.t.Context(), w.log, stream, state.Last)
		if err != nil {
			w.t.Fatal(err)
		}
		machine.Apply(t)
		basis = basis.With(t.Position())
	}
	w.writeRoutes(machine, basis)
}

func (w *world) writeRoutes(machine *resolver.Machine, basis *isthmusv1.Basis) {
	w.t.Helper()
	snapshot, err := w.writers["ROUTES_dc1"].Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	delete(snapshot.Values, isthmusv1.WriterKey())
	delete(snapshot.Values, isthmusv1.BasisKey())
	d := bus.Difference{Basis: basis}
	for key, value := range machine.All() {
		next, err := isthmusv1.Marshal(value)
		if err != nil {
			w.t.Fatal(err)
		}
		if old, ok := snapshot.Values[key]; !ok || !bytes.Equal(old, next) {
			d.Puts = append(d.Puts, bus.Put{Key: key, Value: value})
		}
		delete(snapshot.Values, key)
	}
	d.Deletes = slices.Collect(maps.Keys(snapshot.Values))
	isthmusv1.SortKeys(d.Deletes)
	if _, err := w.writers["ROUTES_dc1"].Write(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
}

// golden compares text with a file that a person has read.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look, then run with -update:\n%s", file, got)
	}
}

// The catalogs that most tests begin with: web in dc1 calls api in dc2, by the
// mode of proxy-defaults.
var (
	dc1Files = map[string]string{
		"agent.hcl":          `node_name = "dc1-1"` + "\n" + `advertise_addr = "10.1.0.1"`,
		"gateway.hcl":        `service { name = "mesh-gateway" kind = "mesh-gateway" port = 8443 }`,
		"proxy-defaults.hcl": "Kind = \"proxy-defaults\"\nName = \"global\"\nMeshGateway { Mode = \"local\" }",
		"web.hcl": `service { name = "web" port = 80 }
service {
  name = "web-proxy"
  kind = "connect-proxy"
  port = 8181
  proxy {
    destination_service_name = "web"
    upstreams = [{ destination_name = "api" datacenter = "dc2" local_bind_port = 10000 }]
  }
}`,
	}
	dc2Files = map[string]string{
		"agent.hcl":   `node_name = "dc2-1"` + "\n" + `advertise_addr = "10.2.0.1"`,
		"gateway.hcl": `service { name = "mesh-gateway" kind = "mesh-gateway" port = 8443 tagged_addresses { wan { address = "192.0.2.2" port = 443 } } }`,
		"api.hcl": `service { name = "api" port = 80 }
service {
  name = "api-proxy"
  kind = "connect-proxy"
  port = 8181
  proxy { destination_service_name = "api" }
}`,
	}
)

// with is a copy of files with some replaced; an empty text takes one away.
func with(files map[string]string, changes ...string) map[string]string {
	out := maps.Clone(files)
	for i := 0; i < len(changes); i += 2 {
		if out[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(out, changes[i])
		}
	}
	return out
}

// proxyDefaults is a proxy-defaults of a mode.
func proxyDefaults(mode string) string {
	return "Kind = \"proxy-defaults\"\nName = \"global\"\nMeshGateway { Mode = \"" + mode + "\" }"
}
