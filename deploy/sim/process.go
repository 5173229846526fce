package sim

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
	"github.com/isthmus-mesh/isthmus/watcher"
)

// process is one of the cast while it runs.
type process struct {
	client *memlog.Client
	stop   context.CancelFunc
	done   chan struct{}
	err    error

	// What it is; all but one are nil.
	view     *view
	watcher  *watcher.Watcher
	resolver *resolverProcess
}

// begin runs the parts of a process until it is killed or one of them fails.
func (p *process) begin(ctx context.Context, parts ...func(context.Context) error) {
	ctx, p.stop = context.WithCancel(ctx)
	p.done = make(chan struct{})
	var (
		group sync.WaitGroup
		mu    sync.Mutex
	)
	for _, part := range parts {
		group.Go(func() {
			if err := part(ctx); !errors.Is(err, context.Canceled) {
				mu.Lock()
				p.err = errors.Join(p.err, err)
				mu.Unlock()
				p.stop() // A process dies whole, so that the audit sees it.
			}
		})
	}
	go func() {
		group.Wait()
		close(p.done)
	}()
}

// kill ends the process without a last word. Its error is what it died of
// before.
func (p *process) kill() error {
	p.client.Cut(true)
	p.stop()
	<-p.done
	return p.err
}

// startWatcher starts a watcher by its name, like watcher.dc1.0.
func startWatcher(ctx context.Context, name string, t *truth, client *memlog.Client, logger *slog.Logger, limit int64) (*process, error) {
	p := &process{client: client, view: t.view()}
	var err error
	p.watcher, err = watcher.New(watcher.Config{
		Datacenter: strings.Split(name, ".")[1],
		Source:     p.view,
		Writer:     bus.WriterConfig{Log: client, Owner: name, MaxMessages: limit},
		Logger:     logger,
	})
	if err != nil {
		return nil, err
	}
	p.begin(ctx, p.watcher.Run)
	return p, nil
}

// Machine is what turns catalogs into routes: the resolver's, or a broken one.
type Machine interface {
	history.Machine
	All() iter.Seq2[isthmusv1.Key, proto.Message]
}

// resolverProcess keeps ROUTES_dc1, as the resolver's role does.
type resolverProcess struct {
	// mu guards the machine, which is the drive's but for the looks that the
	// simulation takes at it.
	mu      sync.Mutex
	machine Machine
	writer  *bus.Writer
	drive   *bus.Drive
	// died receives a failure that no fault of the log explains.
	died chan error
}

func startResolver(ctx context.Context, name string, machine Machine, client *memlog.Client, logger *slog.Logger, limit int64) (*process, error) {
	writer, err := bus.NewWriter(bus.WriterConfig{
		Log: client, Stream: "ROUTES_dc1", Owner: name, RulesVersion: resolver.RulesVersion, MaxMessages: limit, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	r := &resolverProcess{machine: machine, writer: writer, died: make(chan error, 1)}
	emitter := bus.NewEmitter(bus.EmitterConfig{Writer: writer, Ready: r.ready, All: r.all, Failed: r.failed})
	r.drive = &bus.Drive{
		Log: client, Streams: []string{"CATALOG_dc1"}, Discover: isthmusv1.ClassCatalog,
		Machine: bus.MachineFunc(r.apply),
		Emit:    emitter.Emit, Wake: emitter.Wake(), Logger: logger,
	}
	p := &process{client: client, resolver: r}
	p.begin(ctx, writer.Run, r.drive.Run, emitter.Run, r.wait)
	return p, nil
}

func (r *resolverProcess) apply(t *isthmusv1.Transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	history.Feed(r.machine, t)
}

func (r *resolverProcess) all() iter.Seq2[isthmusv1.Key, proto.Message] {
	return func(yield func(isthmusv1.Key, proto.Message) bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.machine.All()(yield)
	}
}

func (r *resolverProcess) ready() ([]bus.Put, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	update := r.machine.Ready()
	if update == nil {
		return nil, false
	}
	puts := make([]bus.Put, len(update.Changes))
	for i, c := range update.Changes {
		puts[i] = bus.Put{Key: c.Key, Value: c.Value}
	}
	return puts, true
}

// failed lets pass what the log's faults explain; anything else ends the run.
func (r *resolverProcess) failed(err error) {
	if errors.Is(err, bus.ErrStaleView) || errors.Is(err, bus.ErrNoStream) || errors.Is(err, bus.ErrUnanswered) {
		return
	}
	select {
	case r.died <- fmt.Errorf("routes: %w", err):
	default:
	}
}

// wait returns the failure that ends the run.
func (r *resolverProcess) wait(ctx context.Context) error {
	select {
	case err := <-r.died:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// held is a state that a reader held at a position.
type held struct {
	stream, incarnation string
	sequence            uint64
	state               map[isthmusv1.Key]string
}

// reader follows all streams and notes what it holds after each transaction,
// for the auditor.
type reader struct {
	mu    sync.Mutex
	state map[string]map[isthmusv1.Key]string
	notes []held
}

func startReader(ctx context.Context, client *memlog.Client, logger *slog.Logger) (*process, *reader) {
	r := &reader{state: map[string]map[isthmusv1.Key]string{}}
	drive := &bus.Drive{
		Log: client, Streams: []string{"ROUTES_dc1"}, Discover: isthmusv1.ClassCatalog, Machine: r, Logger: logger,
	}
	p := &process{client: client}
	p.begin(ctx, drive.Run)
	return p, r
}

// Apply implements [bus.Machine].
func (r *reader) Apply(t *isthmusv1.Transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.state[t.Stream]
	if t.Reset || state == nil {
		state = map[isthmusv1.Key]string{}
		r.state[t.Stream] = state
	}
	for _, c := range t.Changes {
		if c.Tombstone {
			delete(state, c.Key)
		} else {
			state[c.Key] = string(c.Bytes)
		}
	}
	if t.Incarnation != "" { // A departed stream has none.
		r.notes = append(r.notes, held{t.Stream, t.Incarnation, t.Sequence, maps.Clone(state)})
	}
}

// take returns what was noted since the last call.
func (r *reader) take() []held {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := r.notes
	r.notes = nil
	return notes
}

// holds is what the reader holds of a stream now.
func (r *reader) holds(stream string) map[isthmusv1.Key]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.state[stream])
}
