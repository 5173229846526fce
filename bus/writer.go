package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Defaults of a [WriterConfig].
const (
	DefaultHeartbeatInterval = 250 * time.Millisecond
	DefaultTakeoverAfter     = 700 * time.Millisecond
	DefaultBasisInterval     = 100 * time.Millisecond
)

// WriterConfig is what a [Writer] is made of.
type WriterConfig struct {
	Log Log
	// Stream is CATALOG_<dc> or ROUTES_<dc>. It is created if it is not there.
	Stream string
	// Owner says who writes, for people: host, role and process.
	Owner string
	// Instance tells this process from all others; it stands in transaction ids.
	// Empty: random.
	Instance string
	// RulesVersion is that of the rules that compute what is written. A writer
	// never follows on from a newer version. Routes only.
	RulesVersion uint32
	// MaxMessages is W at least. 0: [DefaultMaxMessages].
	MaxMessages int64
	// Replicas of the stream. 0: 1.
	Replicas int
	// Mirrors are the logs that hold mirrors of the stream: W is raised there
	// first. A log without a mirror of it is passed over.
	Mirrors []Log
	// SourceLive reports whether this process sees its own source now: only then
	// does it take over, and while it does not, its heartbeats ask others to. Nil:
	// always.
	SourceLive func() bool
	// Logger may be nil.
	Logger *slog.Logger
	// HeartbeatInterval, TakeoverAfter and BasisInterval have the defaults above.
	// A basis that changed nothing is written at most once a BasisInterval.
	HeartbeatInterval, TakeoverAfter, BasisInterval time.Duration
}

func (c *WriterConfig) validate() error {
	class, _, ok := isthmusv1.ParseStreamName(c.Stream)
	return errors.Join(
		when(c.Log == nil, "a writer needs a log"),
		when(!ok || class == isthmusv1.ClassStatus, fmt.Sprintf("a writer writes CATALOG_<dc> or ROUTES_<dc>, not %q", c.Stream)),
		when(c.Owner == "", "a writer needs an owner: host, role and process"),
		when(c.MaxMessages < 0, "the message limit of a stream cannot be negative"),
	)
}

func when(bad bool, problem string) error {
	if !bad {
		return nil
	}
	return errors.New("bus: " + problem)
}

// Difference is what is to become of a stream's state. Writing the same
// difference twice is harmless: what is already so is left out.
type Difference struct {
	// Puts are the new values. A key must not be put twice, nor also deleted.
	Puts []Put
	// Deletes end keys without saying where that was seen; a [Put] without a value
	// says it.
	Deletes []isthmusv1.Key

	// Basis is what a resolver computed this from; the difference must then be
	// the whole one between the stream's state and the result. Routes must have
	// one. It also completes the stream's first fill.
	Basis *isthmusv1.Basis

	// SourceHeads are the indexes of the source's queries that this was seen at.
	SourceHeads []*isthmusv1.SourceHead
	// SourceEpoch is raised when a restore of the source is confirmed: older
	// indexes then mean nothing. 0: the recorded one.
	SourceEpoch uint64
	// Complete: with this difference the stream's first fill is whole.
	Complete bool
	// Turn, if set, is the one that the difference was made in: in any other the
	// write is refused with ErrNotActive, since it is not the difference to what
	// the stream holds then.
	Turn Turn
	// Tail, if set, says that the source was read consistently after
	// [Writer.Tail] had returned it: source indexes are not compared then, and
	// the write is refused with ErrStaleView if the log has moved since. It is
	// how a source without indexes, such as a directory, is written;
	// [Writer.WriteFrom] does it all.
	Tail *Tail
}

// Put is the new value of a key.
type Put struct {
	Key isthmusv1.Key
	// Value is marshalled deterministically. Nil: the key is gone.
	Value proto.Message
	// Source is where the value was seen: a query with its indexes, or a place in
	// a file. Routes have none.
	Source *isthmusv1.Source
}

// Turn is one turn of office of a writer. It is comparable; the zero Turn is
// none. Terms begin anew in a stream that was made again, so a term alone does
// not name it.
type Turn struct {
	Incarnation string
	Term        uint64
}

// Tail is a place that the log's end was seen at.
type Tail struct {
	Incarnation string
	Sequence    uint64
}

// Writer writes one stream, in turns with the writers of other processes: one
// is active, the others follow hot with the same state. Methods may be called
// from several goroutines.
//
// The active one sends a heartbeat; a follower that hears none for
// TakeoverAfter, or hears that the source was lost, takes over by writing the
// key `writer` with the next term, if its own source is live and its rules are
// not older. Whoever sees a higher term follows again.
type Writer struct {
	cfg   WriterConfig
	class isthmusv1.Class
	log   *slog.Logger

	// writing is held by whoever appends, so that one difference is written at a
	// time.
	writing permit

	mu sync.Mutex // guards what follows
	// state is nil until the bootstrap has ended.
	state *writerState
	// term is the own one while active, else 0.
	term uint64
	// heard is when a sign of life of an active writer was seen last.
	heard time.Time
	// sourceLost: the active writer asked to be relieved.
	sourceLost bool
	// pending is a basis that changed nothing and waits for its turn.
	pending *isthmusv1.Basis
	basisAt time.Time
	beatAt  time.Time
	notify  []chan struct{}

	// kick makes Run look again.
	kick chan struct{}
	// refollow ends the present following.
	refollow context.CancelCauseFunc
}

// NewWriter returns a writer that does nothing until [Writer.Run].
func NewWriter(cfg WriterConfig) (*Writer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.HeartbeatInterval = cmp.Or(cfg.HeartbeatInterval, DefaultHeartbeatInterval)
	cfg.TakeoverAfter = cmp.Or(cfg.TakeoverAfter, DefaultTakeoverAfter)
	cfg.BasisInterval = cmp.Or(cfg.BasisInterval, DefaultBasisInterval)
	cfg.MaxMessages = cmp.Or(cfg.MaxMessages, DefaultMaxMessages)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	cfg.Instance = cmp.Or(cfg.Instance, randomID())
	class, _, _ := isthmusv1.ParseStreamName(cfg.Stream)
	return &Writer{
		cfg:      cfg,
		class:    class,
		log:      cfg.Logger.With("stream", cfg.Stream, "owner", cfg.Owner),
		writing:  newPermit(),
		kick:     make(chan struct{}, 1),
		refollow: func(error) {},
	}, nil
}

// Active reports whether this writer holds the stream.
func (w *Writer) Active() bool { return w.Term() != 0 }

// Term is the number of this writer's turn of office; 0 while it follows.
func (w *Writer) Term() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.term
}

// Turn is this writer's present turn of office; zero while it follows.
func (w *Writer) Turn() Turn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.turn()
}

// turn is Turn with mu held.
func (w *Writer) turn() Turn {
	if w.term == 0 || w.state == nil {
		return Turn{}
	}
	return Turn{Incarnation: w.state.incarnation, Term: w.term}
}

// Notify returns a channel that receives after Active may have changed, and
// after the state was read anew. It holds one; it is never closed.
func (w *Writer) Notify() <-chan struct{} {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notify = append(w.notify, ch)
	return ch
}

// tell wakes those who wait for a change of activity, and Run. With mu held.
func (w *Writer) tell() {
	for _, ch := range append(w.notify, w.kick) {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Snapshot is the state of a stream as its writer knows it.
type Snapshot struct {
	Position *isthmusv1.Position
	// Values are all live keys with their bytes, `writer` and `basis` included.
	// The map is the caller's, the bytes are shared.
	Values map[isthmusv1.Key][]byte
	// Basis is the recorded one; nil if none was.
	Basis *isthmusv1.Basis
	// RulesVersion is the recorded one.
	RulesVersion uint32
	// Whole: Values are what Basis gives. False after a writer died between the
	// transactions of one difference.
	Whole bool
	// Complete: the first fill is done.
	Complete bool
	// SourceEpoch is the recorded one.
	SourceEpoch uint64
	// SourceHeads are the recorded indexes, sorted by query.
	SourceHeads []*isthmusv1.SourceHead
}

// SourceHead is the index recorded of a query of the source in the present source
// epoch, and that epoch; 0 where there is none, or nothing is known yet.
func (w *Writer) SourceHead(query string) (index, epoch uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return 0, 0
	}
	return w.state.head(query), w.state.epoch
}

// Snapshot copies the state. It costs the whole state: for a resolver that has
// just become active and emits the difference to it. Possible error:
// [ErrNotActive] before the bootstrap has ended.
func (w *Writer) Snapshot() (Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return Snapshot{}, fmt.Errorf("%s: %w", w.cfg.Stream, ErrNotActive)
	}
	return w.state.snapshot(), nil
}

// Basis is the recorded basis, or nil.
func (w *Writer) Basis() *isthmusv1.Basis {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return nil
	}
	return w.state.basis
}

// Tail reads the log's end and returns where it is: what is read of a source
// after this is not older than the log. Possible errors: [ErrNotActive], and
// those of [Log.State] and [Log.History].
func (w *Writer) Tail(ctx context.Context) (Tail, error) {
	if err := w.writing.take(ctx); err != nil {
		return Tail{}, err
	}
	defer w.writing.give()
	if err := w.readTail(ctx); err != nil {
		return Tail{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term == 0 {
		return Tail{}, fmt.Errorf("%s: %w", w.cfg.Stream, ErrNotActive)
	}
	return Tail{Incarnation: w.state.incarnation, Sequence: w.state.last}, nil
}

// WriteFrom reads the log's end, calls read, which reads the source and returns
// what is to become of the state, and writes that, fenced by the end. It reads
// again when the log has moved meanwhile. Errors are those of read and Write.
func (w *Writer) WriteFrom(ctx context.Context, read func(context.Context) (Difference, error)) (*isthmusv1.Position, error) {
	for {
		tail, err := w.Tail(ctx)
		if err != nil {
			return nil, err
		}
		d, err := read(ctx)
		if err != nil {
			return nil, err
		}
		d.Tail = &tail
		position, err := w.Write(ctx, d)
		if errors.Is(err, errMoved) {
			continue
		}
		return position, err
	}
}

// errMoved: the log has moved since the tail was read.
var errMoved = fmt.Errorf("the log has moved since the source was read: %w", ErrStaleView)
