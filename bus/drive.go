package bus

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Drive follows streams, applies their transactions to a machine, and emits.
// It is the one loop of every role.
//
// Each round takes all that has arrived, applies it, emits once, and takes
// again: no timer, no quiet period, so a batch grows by itself under load and
// latency is lowest when it is quiet. Nothing is emitted before every stream
// is caught up. When a stream has to be started over, the machine keeps what
// it had of it until the new Reset. One goroutine calls the machine and Emit.
//
// A Drive is used once.
type Drive struct {
	// Log is where the streams are.
	Log Log
	// Streams are followed by name; one that does not exist yet is waited for.
	Streams []string
	// Discover, if not empty, also follows every present and future stream of the
	// class. A discovered stream that nobody has filled yet does not hold back
	// the others, and one that has been gone for DepartAfter is dropped with an
	// empty Reset.
	Discover isthmusv1.Class
	// Machine is what transactions are applied to.
	Machine Machine
	// Emit is called after each round with the basis of what was applied. Its
	// error ends Run. Nil: nothing is emitted.
	Emit func(ctx context.Context, basis *isthmusv1.Basis) error
	// Wake makes a round with nothing new in it, such as when a writer became
	// active ([Writer.Notify]). May be nil.
	Wake <-chan struct{}
	// Logger is told of every start over and its reason. Nil: nothing is logged.
	Logger *slog.Logger
	// OnProgress is told when a stream's readiness or trouble changes, from the
	// loop's goroutine. May be nil.
	OnProgress func(StreamProgress)
	// Registerer gets the isthmus_bus_stream_… metrics while Run runs. May be nil.
	Registerer prometheus.Registerer
	// DiscoverEvery is how often new streams are looked for. 0: a second.
	DiscoverEvery time.Duration
	// DepartAfter is how long a discovered stream may be gone. 0: a minute.
	DepartAfter time.Duration

	once     sync.Once
	events   chan driveEvent
	progress progressTable
	loopOnly struct {
		basis   *isthmusv1.Basis
		streams map[string]*driven
	}
}

// driven is what the loop knows of one stream.
type driven struct {
	stop       context.CancelFunc
	discovered bool
	// settled: caught up, or known to hold nothing yet.
	settled bool
	gone    time.Time
}

// driveEvent is what a follower tells the loop: a transaction, trouble, or that
// the stream holds nothing yet.
type driveEvent struct {
	stream      string
	transaction *isthmusv1.Transaction
	start       *StreamState
	unfilled    bool
	trouble     error
	last        uint64
}

// eventBuffer is how far followers may run ahead of the machine.
const eventBuffer = 1024

func (d *Drive) init() {
	d.once.Do(func() {
		d.events = make(chan driveEvent, eventBuffer)
		d.progress.init()
		d.loopOnly.basis = new(isthmusv1.Basis)
		d.loopOnly.streams = make(map[string]*driven)
		if d.Logger == nil {
			d.Logger = slog.New(slog.DiscardHandler)
		}
		if d.DiscoverEvery == 0 {
			d.DiscoverEvery = time.Second
		}
		if d.DepartAfter == 0 {
			d.DepartAfter = time.Minute
		}
	})
}

// Run drives the machine until the context ends, and returns the context's
// cause, or Emit's error. All its goroutines have ended when it returns.
func (d *Drive) Run(ctx context.Context) error {
	d.init()
	if d.Registerer != nil {
		c := progressCollector{&d.progress}
		if err := d.Registerer.Register(c); err != nil {
			return fmt.Errorf("drive: metrics: %w", err)
		}
		defer d.Registerer.Unregister(c)
	}
	ctx, cancel := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	for _, stream := range d.Streams {
		d.follow(ctx, &followers, stream, false)
	}
	followers.Go(func() { d.watchMirrors(ctx) })
	lists := make(chan []string)
	if d.Discover != "" {
		followers.Go(func() { d.discover(ctx, lists) })
	}
	return d.loop(ctx, &followers, lists)
}

// loop waits for one of four things: an event of a follower, a list of the
// streams that there are, a wake-up, the end.
func (d *Drive) loop(ctx context.Context, followers *sync.WaitGroup, lists <-chan []string) error {
	listed, emitted := d.Discover == "", false
	for {
		var due bool
		select {
		case e := <-d.events:
			due = d.take(e)
		case names := <-lists:
			due = d.adopt(ctx, followers, names)
			listed = true
		case <-d.Wake:
			due = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		due = d.takeArrived() || due
		if !listed || !d.settled() || (emitted && !due) {
			continue
		}
		if d.Emit != nil {
			if err := d.Emit(ctx, d.loopOnly.basis); err != nil {
				return err
			}
		}
		emitted = true
	}
}

// takeArrived applies what has arrived meanwhile, without waiting.
func (d *Drive) takeArrived() (applied bool) {
	for range eventBuffer {
		select {
		case e := <-d.events:
			applied = d.take(e) || applied
		default:
			return applied
		}
	}
	return applied
}

// take does what an event says, and reports whether the machine was given
// anything.
func (d *Drive) take(e driveEvent) (applied bool) {
	stream := d.loopOnly.streams[e.stream]
	if stream == nil {
		return false // Departed meanwhile.
	}
	if e.unfilled {
		stream.settled = stream.settled || stream.discovered
	}
	if t := e.transaction; t != nil {
		d.Machine.Apply(t)
		d.loopOnly.basis = d.loopOnly.basis.With(t.Position())
		stream.settled = true
		applied = true
	}
	if progress, changed := d.progress.note(e); changed && d.OnProgress != nil {
		d.OnProgress(progress)
	}
	return applied
}

func (d *Drive) settled() bool {
	for _, stream := range d.loopOnly.streams {
		if !stream.settled {
			return false
		}
	}
	return len(d.loopOnly.streams) > 0
}

// follow starts the follower of a stream.
func (d *Drive) follow(ctx context.Context, followers *sync.WaitGroup, stream string, discovered bool) {
	if _, ok := d.loopOnly.streams[stream]; ok {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	d.loopOnly.streams[stream] = &driven{stop: stop, discovered: discovered}
	d.progress.add(stream)
	f := &follower{log: d.Log, stream: stream, logger: d.Logger.With("stream", stream), events: d.events}
	followers.Go(func() { f.run(ctx) })
}

// discover sends a list of the class's streams whenever it looked.
func (d *Drive) discover(ctx context.Context, lists chan<- []string) {
	ticker := time.NewTicker(d.DiscoverEvery)
	defer ticker.Stop()
	for {
		names, err := d.Log.Streams(ctx)
		if err != nil {
			d.Logger.Log(ctx, severity(err), "streams could not be listed", "err", err)
		} else {
			names = slices.DeleteFunc(names, func(name string) bool {
				class, _, _ := isthmusv1.ParseStreamName(name)
				return class != d.Discover
			})
			select {
			case lists <- names:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// mirrorEvery is how often mirrors are asked when they last heard of their
// origin.
const mirrorEvery = 5 * time.Second

// watchMirrors keeps the progress of mirrors true: a cut link is silent.
func (d *Drive) watchMirrors(ctx context.Context) {
	ticker := time.NewTicker(mirrorEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for _, name := range d.progress.mirrors() {
			state, err := d.Log.State(ctx, name)
			if err != nil {
				d.Logger.Debug("a mirror's state is not known", "stream", name, "err", err)
				continue
			}
			d.progress.noteMirror(name, state.Mirror)
		}
	}
}

// adopt follows what is new in the list and drops what has been gone for long:
// a stream that is only made again comes back at once and is not dropped.
func (d *Drive) adopt(ctx context.Context, followers *sync.WaitGroup, names []string) (applied bool) {
	for _, name := range names {
		d.follow(ctx, followers, name, true)
	}
	for name, stream := range d.loopOnly.streams {
		switch {
		case !stream.discovered:
		case slices.Contains(names, name):
			stream.gone = time.Time{}
		case stream.gone.IsZero():
			stream.gone = time.Now()
		case time.Since(stream.gone) >= d.DepartAfter:
			d.depart(name)
			applied = true
		}
	}
	return applied
}

func (d *Drive) depart(name string) {
	d.Logger.Warn("stream is gone and was dropped", "stream", name)
	d.loopOnly.streams[name].stop()
	delete(d.loopOnly.streams, name)
	d.progress.remove(name)
	if d.loopOnly.basis.At(name) == nil {
		return
	}
	d.Machine.Apply(&isthmusv1.Transaction{Stream: name, Reset: true})
	kept := slices.DeleteFunc(slices.Clone(d.loopOnly.basis.GetPositions()), func(p *isthmusv1.Position) bool {
		return p.GetStream() == name
	})
	d.loopOnly.basis = &isthmusv1.Basis{Positions: kept}
}

// Progress is how far each followed stream is, sorted by name. It may be called
// at any time from any goroutine.
func (d *Drive) Progress() []StreamProgress {
	d.init()
	return d.progress.all()
}

// Ready reports whether every followed stream is caught up, and if not, which
// ones are not and why. A discovered stream that nobody has filled does not
// count.
func (d *Drive) Ready() error {
	d.init()
	return d.progress.ready(d.Streams)
}
