package bus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// connect connects with a patience that outlasts any stall of a busy machine,
// since much is asked only once here.
func connect(t *testing.T, url string, options bus.Options) *bus.JetStream {
	t.Helper()
	if options.Timeout == 0 {
		options.Timeout = 15 * time.Second
	}
	log, err := bus.Connect(url, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

func server(t *testing.T, options embed.Options) *embed.Server {
	t.Helper()
	if options.StoreDir == "" {
		options.StoreDir = t.TempDir()
	}
	options.Host = testHost()
	s, err := embed.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// testHost is a loopback address of this process alone: whoever connects to
// somewhere leaves from 127.0.0.1, so a port that was given back here stays
// free.
func testHost() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 200+pid>>15&15, pid>>7&255, 1+pid&127)
}

// liveWriter starts a writer on real sockets and waits until it is active.
func liveWriter(t *testing.T, cfg bus.WriterConfig) writerProcess {
	t.Helper()
	w, err := bus.NewWriter(withDefaults(cfg))
	if err != nil {
		t.Fatal(err)
	}
	changed := w.Notify()
	p := writerProcess{w, start(t, w.Run), cfg.Log}
	for !w.Active() {
		receive(t, changed)
	}
	return p
}

func withDefaults(cfg bus.WriterConfig) bus.WriterConfig {
	if cfg.Stream == "" {
		cfg.Stream = catalog
	}
	if cfg.Owner == "" {
		cfg.Owner = "test"
	}
	return cfg
}

// liveDriver follows streams and shows each emission: the nodes of the named
// stream.
type liveDriver struct {
	*driver
	emissions chan []string
}

func startLiveDriver(t *testing.T, log bus.Log, stream string) liveDriver {
	t.Helper()
	d := liveDriver{newDriver(log, stream), make(chan []string, 1024)}
	d.Emit = func(context.Context, *isthmusv1.Basis) error {
		d.emissions <- d.machine.nodes(stream)
		return nil
	}
	d.run(t)
	return d
}

// until waits for an emission that shows just these nodes.
func (d liveDriver) until(t *testing.T, want ...string) {
	t.Helper()
	for {
		if got := receive(t, d.emissions); slices.Equal(got, want) {
			return
		}
	}
}

// receive waits for as long as the test may run.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-t.Context().Done():
		t.Fatal("the test is over")
	case <-deadline(t):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

func deadline(t *testing.T) <-chan time.Time {
	at, ok := t.Deadline()
	if !ok {
		return nil
	}
	return time.After(time.Until(at) - 5*time.Second)
}

func TestJetStreamWholeWay(t *testing.T) {
	s := server(t, embed.Options{})
	log := connect(t, s.URL(), bus.Options{Name: "test", InboxPrefix: "_INBOX_test"})
	w := liveWriter(t, bus.WriterConfig{Log: log})
	d := startLiveDriver(t, log, catalog)
	mustWrite(t, w, difference(put("a", "1", 1)))
	d.until(t, "a=1")
	mustWrite(t, w, difference(put("a", "2", 2), put("b", "2", 2)))
	d.until(t, "a=2", "b=2")
	mustWrite(t, w, difference(many(2500, "3", 3)...))
	position := mustWrite(t, w, difference(gone("a", 4), gone("b", 4)))
	late := startLiveDriver(t, log, catalog)
	if n := len(receive(t, late.emissions)); n != 2500 {
		t.Errorf("a late reader begins with %d nodes", n)
	}
	if n := len(nodesAt(t, log, catalog, position.GetSequence()-2)); n != 2502 {
		t.Errorf("%d nodes before the end", n)
	}
	for i := range 300 { // far from the end, by a consumer
		if i%100 == 0 {
			nodesAt(t, log, catalog, uint64(i+2))
		}
	}
}

// While the server is away nothing is lost, and what is written is there when it
// is back. The times are logged.
func TestJetStreamServerRestart(t *testing.T) {
	options := embed.Options{StoreDir: t.TempDir(), Host: testHost()}
	s, err := embed.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	options.Port = port(t, s.URL())
	log := connect(t, s.URL(), bus.Options{Name: "test"})
	w := liveWriter(t, bus.WriterConfig{Log: log})
	d := startLiveDriver(t, log, catalog)
	mustWrite(t, w, difference(put("a", "1", 1)))
	d.until(t, "a=1")
	s.Stop()
	written := make(chan error)
	go func() {
		_, err := w.Write(t.Context(), difference(put("a", "2", 2)))
		written <- err
	}()
	server(t, options)
	up := time.Now()
	if err := receive(t, written); err != nil {
		t.Fatal(err)
	}
	t.Logf("written %v after the server was back", time.Since(up))
	d.until(t, "a=2")
	t.Logf("read %v after the server was back", time.Since(up))
	if w.Term() != 1 {
		t.Errorf("term %d: nobody else was there", w.Term())
	}
	equal(t, "log", lines(history(t, log, catalog)), []string{"1 writer .", "2 node/a .", "3 node/a ."})
}

func port(t *testing.T, url string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(url[strings.LastIndex(url, ":"):], ":%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestJetStreamRecreatedStream(t *testing.T) {
	s := server(t, embed.Options{})
	log := connect(t, s.URL(), bus.Options{Name: "test"})
	w := liveWriter(t, bus.WriterConfig{Log: log})
	d := startLiveDriver(t, log, catalog)
	mustWrite(t, w, difference(put("a", "1", 1), put("b", "1", 1)))
	d.until(t, "a=1", "b=1")
	changed := w.Notify()
	if err := log.Delete(t.Context(), catalog); err != nil {
		t.Fatal(err)
	}
	// The writer makes it again and takes it; the source is written anew.
	for {
		receive(t, changed)
		_, err := w.Write(t.Context(), difference(put("a", "2", 1)))
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrNotActive) && !errors.Is(err, bus.ErrNoStream) && !errors.Is(err, bus.ErrReplaced) {
			t.Fatal(err)
		}
	}
	d.until(t, "a=2")
}

func TestJetStreamTakeover(t *testing.T) {
	s := server(t, embed.Options{})
	one, two := connect(t, s.URL(), bus.Options{Name: "one"}), connect(t, s.URL(), bus.Options{Name: "two"})
	// It never takes back what another takes, should it be silent for long before
	// its death on a busy machine.
	a := liveWriter(t, bus.WriterConfig{Log: one, Owner: "a", TakeoverAfter: time.Hour})
	mustWrite(t, a, difference(put("a", "1", 1)))
	b, err := bus.NewWriter(withDefaults(bus.WriterConfig{Log: two, Owner: "b"}))
	if err != nil {
		t.Fatal(err)
	}
	changed := b.Notify()
	start(t, b.Run)
	for receive(t, changed); ; receive(t, changed) {
		if _, err := b.Snapshot(); err == nil {
			break
		}
	}
	one.Close() // It dies without a word.
	died := time.Now()
	for !b.Active() {
		receive(t, changed)
	}
	t.Logf("took over %v after the death", time.Since(died))
	if b.Term() != 2 {
		t.Errorf("term %d", b.Term())
	}
	if _, err := b.Write(t.Context(), difference(put("a", "2", 2))); err != nil {
		t.Error(err)
	}
}

func TestJetStreamClusterLosesItsLeader(t *testing.T) {
	c, err := embed.StartCluster(3, embed.Options{StoreDir: t.TempDir(), Host: testHost()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	// The default patience: what the dying leader was asked is asked again.
	log := connect(t, c.URL(), bus.Options{Name: "test", Timeout: time.Second})
	w := liveWriter(t, bus.WriterConfig{Log: log, Replicas: 3})
	d := startLiveDriver(t, log, catalog)
	mustWrite(t, w, difference(put("a", "0", 1)))
	d.until(t, "a=0")
	index, leader := uint64(1), c.StreamLeader(catalog)
	for leader < 0 { // An election is on: once a write is answered it is over.
		index++
		mustWrite(t, w, difference(put("a", fmt.Sprint("before ", index), index)))
		leader = c.StreamLeader(catalog)
	}
	c.StopOne(leader)
	for i := range 20 {
		stopped := time.Now()
		index++
		mustWrite(t, w, difference(put("a", fmt.Sprint(i+1), index), put("b", fmt.Sprint(i+1), index)))
		if i == 0 {
			t.Logf("written %v after the leader was stopped", time.Since(stopped))
		}
	}
	d.until(t, "a=20", "b=20")
	checkTerms(t, history(t, log, catalog))
}

// checkTerms holds the log against what fencing promises: terms never go back,
// and every change stands there once.
func checkTerms(t *testing.T, messages []recorded) {
	t.Helper()
	var term uint64
	values := make(map[string]bool)
	for _, m := range messages {
		if got := m.GetEnvelope().GetTerm(); got < term {
			t.Errorf("at %d term %d after %d", m.Sequence, got, term)
		} else {
			term = got
		}
		if id := m.Key.String() + string(m.GetValue()); m.Key.Kind == isthmusv1.KindNode && values[id] {
			t.Errorf("at %d: %s was written twice", m.Sequence, m.Key)
		} else {
			values[id] = true
		}
	}
}

// linked starts two domains with a leafnode between them.
// mirror makes a mirror as soon as the link carries requests.
// One answer of the server is no whole page when it is long.
func TestJetStreamLatestInPages(t *testing.T) {
	s := server(t, embed.Options{})
	log := connect(t, s.URL(), bus.Options{})
	if _, err := log.Create(t.Context(), bus.StreamConfig{Name: catalog}); err != nil {
		t.Fatal(err)
	}
	var keys []isthmusv1.Key
	for i := range 90 { // 90 MB, over the server's 64 MiB for one client
		key := isthmusv1.NodeKey("", fmt.Sprint(i))
		keys = append(keys, key)
		m := bus.Message{Key: key, Record: []byte(strings.Repeat(string(rune('a'+i%26)), 1<<20-8192))}
		if _, err := log.Append(t.Context(), catalog, uint64(i), []bus.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := log.Latest(t.Context(), catalog, keys, 90)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 90 || got[89].Sequence != 90 || got[5].Record[0] != 'f' {
		t.Errorf("%d messages", len(got))
	}
}

func TestJetStreamNamesItsErrors(t *testing.T) {
	s := server(t, embed.Options{})
	log := connect(t, s.URL(), bus.Options{})
	if _, err := log.State(t.Context(), catalog); !errors.Is(err, bus.ErrNoStream) || !strings.Contains(err.Error(), catalog) {
		t.Errorf("no stream: %v", err)
	}
	s.Stop()
	if _, err := log.State(t.Context(), catalog); !errors.Is(err, bus.ErrUnanswered) {
		t.Errorf("no server: %v", err)
	}
	if _, err := log.Append(t.Context(), catalog, 0, []bus.Message{{Key: isthmusv1.RootsKey()}}); !errors.Is(err, bus.ErrUnanswered) {
		t.Errorf("append to no server: %v", err)
	}
	if _, err := bus.Connect("nats://127.0.0.1:1", bus.Options{NkeySeedFile: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a seed file that is not there: %v", err)
	}
}

func TestJetStreamThatIsNotThereYet(t *testing.T) {
	free := freePort(t)
	log := connect(t, fmt.Sprintf("nats://%s:%d", testHost(), free), bus.Options{})
	d := startLiveDriver(t, log, catalog)
	options := embed.Options{Port: free}
	server(t, options)
	w := liveWriter(t, bus.WriterConfig{Log: log})
	mustWrite(t, w, difference(put("a", "1", 1)))
	d.until(t, "a=1")
}
