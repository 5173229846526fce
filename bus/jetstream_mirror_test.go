package bus_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func linked(t *testing.T) (dc1, dc2 *bus.JetStream, far *embed.Server, options embed.Options) {
	t.Helper()
	hub := server(t, embed.Options{Name: "hub", Domain: "dc1", LeafPort: freePort(t)})
	options = embed.Options{
		Name: "far", Domain: "dc2", StoreDir: filepath.Join(t.TempDir(), "far"), LeafRemotes: []string{hub.LeafURL()},
	}
	far = server(t, options)
	options.Port = port(t, far.URL())
	dc1 = connect(t, hub.URL(), bus.Options{Name: "dc1", Domain: "dc1"})
	dc2 = connect(t, far.URL(), bus.Options{Name: "dc2", Domain: "dc2"})
	return dc1, dc2, far, options
}

func freePort(t *testing.T) int {
	t.Helper()
	s := server(t, embed.Options{})
	s.Stop()
	return port(t, s.URL())
}

func mirror(t *testing.T, log *bus.JetStream, config bus.StreamConfig) bus.StreamState {
	t.Helper()
	for {
		state, err := log.Create(t.Context(), config)
		if err == nil {
			return state
		}
		if !errors.Is(err, bus.ErrUnanswered) {
			t.Fatal(err)
		}
	}
}

func TestJetStreamMirrorAcrossDomains(t *testing.T) {
	dc1, dc2, far, options := linked(t)
	w := liveWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2", MaxMessages: 5000})
	mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
	config := bus.StreamConfig{Name: "CATALOG_dc2", MaxMessages: 10, Mirror: &bus.Mirror{Domain: "dc2"}}
	state := mirror(t, dc1, config)
	origin, err := dc2.State(t.Context(), "CATALOG_dc2")
	if err != nil {
		t.Fatal(err)
	}
	if state.Incarnation != origin.Incarnation || state.MaxMessages != 5000 || state.Mirror == nil || state.Mirror.Domain != "dc2" {
		t.Errorf("mirror %+v of %+v", state, origin)
	}
	checkDurableSourcing(t, far)
	d := startLiveDriver(t, dc1, "CATALOG_dc2")
	d.until(t, "a=1", "b=1")
	position := mustWrite(t, w, difference(put("a", "2", 2), gone("b", 2)))
	d.until(t, "a=2")
	if got := d.progressOf(t, "CATALOG_dc2"); got.Last != position.GetSequence() || got.Applied.GetIncarnation() != position.GetIncarnation() {
		t.Errorf("a mirror keeps sequences: %+v, the origin is at %v", got, position)
	}
	// The far datacenter goes away and comes back.
	far.Stop()
	if _, err := dc1.Create(t.Context(), config); err != nil {
		t.Errorf("a mirror whose origin is out of reach: %v", err)
	}
	equal(t, "kept meanwhile", d.machine.nodes("CATALOG_dc2"), []string{"a=2"})
	server(t, options)
	back := time.Now()
	mustWrite(t, w, difference(put("c", "3", 3)))
	d.until(t, "a=2", "c=3")
	t.Logf("the mirror had caught up %v after the link was back", time.Since(back))
}

// checkDurableSourcing: a durable consumer at the origin feeds the mirror, since an
// ephemeral one takes half a minute after a cut.
func checkDurableSourcing(t *testing.T, far *embed.Server) {
	t.Helper()
	nc, err := nats.Connect(far.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	origin, err := js.Stream(t.Context(), "CATALOG_dc2")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	consumers := origin.ListConsumers(t.Context())
	for c := range consumers.Info() {
		if c.Config.DeliverSubject == "" {
			continue // The origin's writer follows it too.
		}
		names = append(names, c.Config.Durable)
		if c.Config.AckPolicy != jetstream.AckFlowControlPolicy || c.Config.DeliverPolicy != jetstream.DeliverAllPolicy {
			t.Errorf("consumer %+v", c.Config)
		}
	}
	if consumers.Err() != nil || !slices.Equal(names, []string{"MIRROR_dc1"}) {
		t.Errorf("consumers of the origin: %q, %v", names, consumers.Err())
	}
}

func TestJetStreamMirrorOfARecreatedOrigin(t *testing.T) {
	dc1, dc2, _, _ := linked(t)
	w := liveWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
	mustWrite(t, w, difference(put("a", "1", 1)))
	config := bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}}
	before := mirror(t, dc1, config)
	d := startLiveDriver(t, dc1, "CATALOG_dc2")
	d.until(t, "a=1")
	w.kill()
	if err := dc2.Delete(t.Context(), "CATALOG_dc2"); err != nil {
		t.Fatal(err)
	}
	w = liveWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
	mustWrite(t, w, difference(put("b", "1", 1)))
	if err := dc1.Mirrors(t.Context(), isthmusv1.ClassCatalog, []string{"dc1", "dc2"}, bus.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	d.until(t, "b=1")
	after, err := dc1.State(t.Context(), "CATALOG_dc2")
	if err != nil || after.Incarnation == before.Incarnation || after.Mirror == nil {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
}

func TestAMirrorHasNoWriterHere(t *testing.T) {
	dc1, dc2, _, _ := linked(t)
	w := liveWriter(t, bus.WriterConfig{Log: dc2, Stream: "CATALOG_dc2"})
	mustWrite(t, w, difference(put("a", "1", 1)))
	mirror(t, dc1, bus.StreamConfig{Name: "CATALOG_dc2", Mirror: &bus.Mirror{Domain: "dc2"}})
	wrong, err := bus.NewWriter(withDefaults(bus.WriterConfig{Log: dc1, Stream: "CATALOG_dc2"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := wrong.Run(t.Context()); !errors.Is(err, bus.ErrMirror) {
		t.Errorf("got %v", err)
	}
}
