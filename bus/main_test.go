package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

const (
	catalog = "CATALOG_dc1"
	routes  = "ROUTES_dc1"
)

// errStop is why a test ends what it has started.
var errStop = errors.New("the test is over")

// process runs something until it is killed, as a process does.
type process struct {
	kill func()
	done chan struct{}
}

// start runs a part in the background; the test ends it if nobody did before.
func start(t *testing.T, run func(context.Context) error) *process {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	p := &process{done: make(chan struct{})}
	var once sync.Once
	p.kill = func() {
		once.Do(func() {
			cancel(errStop)
			<-p.done
		})
	}
	go func() {
		defer close(p.done)
		if err := run(ctx); !errors.Is(err, errStop) && !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// logLines is where a test reads what was logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logLines) contains(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), part)
}

// writerProcess is a writer with the process that runs it.
type writerProcess struct {
	*bus.Writer
	*process
	log bus.Log
}

// connectionOf is the connection that a writer was started with.
func connectionOf(t *testing.T, w writerProcess) *memlog.Client {
	t.Helper()
	connection, ok := w.log.(*memlog.Client)
	if !ok {
		t.Fatalf("%T is not a connection", w.log)
	}
	return connection
}

func startWriter(t *testing.T, cfg bus.WriterConfig) writerProcess {
	t.Helper()
	if cfg.Owner == "" {
		cfg.Owner = "test"
	}
	if cfg.Stream == "" {
		cfg.Stream = catalog
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w, err := bus.NewWriter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return writerProcess{w, start(t, w.Run), cfg.Log}
}

// activeWriter starts a writer in a bubble and waits until it holds its stream.
func activeWriter(t *testing.T, cfg bus.WriterConfig) writerProcess {
	t.Helper()
	w := startWriter(t, cfg)
	synctest.Wait()
	for range 20 {
		if w.Active() {
			return w
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	t.Fatal("the writer did not become active")
	return w
}

// put is a node seen at an index of the query "nodes".
func put(name, address string, index uint64) bus.Put {
	return bus.Put{
		Key:    isthmusv1.NodeKey("", name),
		Value:  &isthmusv1.Node{Name: name, Address: address},
		Source: &isthmusv1.Source{Query: "nodes", IndexAt: index},
	}
}

func gone(name string, index uint64) bus.Put {
	return bus.Put{Key: isthmusv1.NodeKey("", name), Source: &isthmusv1.Source{Query: "nodes", IndexAt: index}}
}

func difference(puts ...bus.Put) bus.Difference { return bus.Difference{Puts: puts, Complete: true} }

func mustWrite(t *testing.T, w writerProcess, d bus.Difference) *isthmusv1.Position {
	t.Helper()
	position, err := w.Write(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return position
}

// many are nodes n0, n1, … with one address.
func many(n int, address string, index uint64) []bus.Put {
	puts := make([]bus.Put, n)
	for i := range puts {
		puts[i] = put(fmt.Sprintf("n%04d", i), address, index)
	}
	return puts
}

// recorded is one message with its record read.
type recorded struct {
	bus.Message
	*isthmusv1.Record
}

// history reads everything that a stream holds.
func history(t *testing.T, log bus.Log, stream string) []recorded {
	t.Helper()
	var out []recorded
	for m, err := range log.History(t.Context(), stream, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		record := new(isthmusv1.Record)
		if err := proto.Unmarshal(m.Record, record); err != nil {
			t.Fatal(err)
		}
		out = append(out, recorded{m, record})
	}
	return out
}

// lines shows messages for a comparison: sequence, key, and what the envelope
// says of transaction bounds.
func lines(messages []recorded) []string {
	var out []string
	for _, m := range messages {
		line := fmt.Sprintf("%d %s", m.Sequence, m.Key)
		if m.GetTombstone() {
			line += " gone"
		}
		if o := m.GetEnvelope().GetOrigin(); o != nil {
			line += fmt.Sprintf(" keyframe of %d", o.GetSequence())
		}
		if m.GetEnvelope().GetEnd() != nil {
			line += " ."
		}
		out = append(out, line)
	}
	return out
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// stateMachine keeps what it was given, for a test to look at.
type stateMachine struct {
	mu           sync.Mutex
	states       map[string]map[isthmusv1.Key]string
	transactions []*isthmusv1.Transaction
}

func newStateMachine() *stateMachine {
	return &stateMachine{states: make(map[string]map[isthmusv1.Key]string)}
}

func (m *stateMachine) Apply(t *isthmusv1.Transaction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.transactions = append(m.transactions, t)
	if t.Reset || m.states[t.Stream] == nil {
		m.states[t.Stream] = make(map[isthmusv1.Key]string)
	}
	for _, c := range t.Changes {
		if c.Tombstone {
			delete(m.states[t.Stream], c.Key)
		} else {
			m.states[t.Stream][c.Key] = string(c.Bytes)
		}
	}
}

// nodes shows the nodes of a stream: name=address, sorted.
func (m *stateMachine) nodes(stream string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return nodesOf(m.states[stream])
}

func nodesOf(state map[isthmusv1.Key]string) []string {
	var out []string
	for key, value := range state {
		if key.Kind != isthmusv1.KindNode {
			continue
		}
		node := new(isthmusv1.Node)
		if err := proto.Unmarshal([]byte(value), node); err != nil {
			panic(err)
		}
		out = append(out, node.GetName()+"="+node.GetAddress())
	}
	slices.Sort(out)
	return out
}

// nodesAt is the state of a stream at a sequence as [bus.StateAt] tells it.
func nodesAt(t *testing.T, log bus.Log, stream string, sequence uint64) []string {
	t.Helper()
	tx, err := bus.StateAt(t.Context(), log, stream, sequence)
	if err != nil {
		t.Fatal(err)
	}
	m := newStateMachine()
	m.Apply(tx)
	return m.nodes(stream)
}

var _ bus.Log = (*memlog.Log)(nil)

// atomicBool is a flag that a callback reads.
type atomicBool struct {
	mu    sync.Mutex
	value bool
}

func (b *atomicBool) get() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.value
}

func (b *atomicBool) set(value bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.value = value
}

// basis is a basis of one position.
func basis(stream, incarnation string, sequence uint64) *isthmusv1.Basis {
	return new(isthmusv1.Basis).With(&isthmusv1.Position{Stream: stream, Incarnation: incarnation, Sequence: sequence})
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := isthmusv1.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(m bus.Message) *isthmusv1.Record {
	record := new(isthmusv1.Record)
	if err := proto.Unmarshal(m.Record, record); err != nil {
		panic(err)
	}
	return record
}
