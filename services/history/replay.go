package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// ErrNothingRecorded says that the datacenter's routes record no basis that the
// logs can still show, so that there is nothing to compare.
var ErrNothingRecorded = errors.New("no recorded basis can be replayed")

// Machine is what a replay drives: the resolver's.
type Machine interface {
	Feeder
	Ready() *resolver.Update
}

// ReplayOptions say what [Replay] compares.
type ReplayOptions struct {
	// Log is where the streams are.
	Log bus.Log
	// Datacenter whose routes are compared.
	Datacenter string
	// From and To are sequences of ROUTES_<dc>, both included. 0: as far back as
	// history is exact, and the end.
	From, To uint64
	// Machine makes the machine. Nil: the resolver's.
	Machine func(datacenter string) Machine
	// Progress is told of each transaction: its sequence, and the last one. May be
	// nil.
	Progress func(sequence, last uint64)
}

// ReplayResult is what a replay found.
type ReplayResult struct {
	Datacenter  string `json:"datacenter"`
	Stream      string `json:"stream"`
	Incarnation string `json:"incarnation"`
	// From and To are the sequences of the first and the last basis compared.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Bases were driven to and compared; Skipped could not be: their rules are of
	// another version, or their catalogs are no longer whole in the log.
	Bases   int `json:"bases"`
	Skipped int `json:"skipped"`
	// Why is the reason of the last one that was skipped.
	Why string `json:"why,omitzero"`
	// Events are the catalogs' messages that were applied after the start.
	Events int `json:"events"`
	// Keys were compared, and LiveKeys are those of the last basis.
	Keys     int `json:"keys"`
	LiveKeys int `json:"live_keys"`
	// Difference is the first one; null when there is none.
	Difference *ReplayDifference `json:"difference"`
}

// ReplayDifference is a key of a basis whose recorded value is not what the
// rules give.
type ReplayDifference struct {
	// Sequence of the routes' transaction that recorded the basis.
	Sequence uint64 `json:"sequence"`
	Basis    string `json:"basis"`
	Key      string `json:"key"`
	// Recorded and Resolved say whether the key has a value there.
	Recorded bool `json:"recorded"`
	Resolved bool `json:"resolved"`
	// Details are what differs, recorded → resolved.
	Details []string `json:"details"`
	// Events are those that led from the basis before to this one.
	Events []Event `json:"events"`
}

// Replay drives the resolver through the bases that ROUTES_<dc> records and
// compares, at each, every key that either of them changed; at the first and
// after anything that was skipped, every key. It ends at the first difference.
//
// Possible errors: [bus.ErrNoStream], [bus.ErrNotRetained], [bus.ErrNotYet],
// [ErrNothingRecorded], and those of reading the log.
func Replay(ctx context.Context, options ReplayOptions) (*ReplayResult, error) {
	if options.Machine == nil {
		options.Machine = func(datacenter string) Machine { return resolver.New(datacenter) }
	}
	r := &replay{
		options:  options,
		recorded: make(map[isthmusv1.Key][]byte), resolved: make(map[isthmusv1.Key][]byte),
		touched: make(map[isthmusv1.Key]bool), all: true,
		catalogs: catalogs{log: options.Log, streams: make(map[string]*catalog), machine: options.Machine(options.Datacenter)},
	}
	defer r.catalogs.close()
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	if r.result.Bases == 0 {
		return nil, fmt.Errorf("%s: %w%s", r.result.Stream, ErrNothingRecorded, because(r.result.Why))
	}
	return &r.result, nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// replay is one run.
type replay struct {
	options  ReplayOptions
	catalogs catalogs
	result   ReplayResult
	// recorded and resolved are the live keys of both sides.
	recorded, resolved map[isthmusv1.Key][]byte
	// touched are the keys that the routes changed since the last comparison; all
	// asks for every key.
	touched map[isthmusv1.Key]bool
	all     bool
}

func (r *replay) run(ctx context.Context) error {
	stream := isthmusv1.StreamName(isthmusv1.ClassRoutes, r.options.Datacenter)
	state, err := r.options.Log.State(ctx, stream)
	if err != nil {
		return err
	}
	r.result = ReplayResult{Datacenter: r.options.Datacenter, Stream: stream, Incarnation: state.Incarnation}
	last := r.options.To
	if last == 0 {
		last = state.Last
	}
	position, err := r.begin(ctx, state)
	if err != nil {
		return err
	}
	for t, err := range transactions(ctx, r.options.Log, position, last) {
		if err != nil {
			return err
		}
		if r.options.Progress != nil {
			r.options.Progress(t.Sequence, last)
		}
		r.record(t)
		if err := r.compareAt(ctx, t); err != nil || r.result.Difference != nil {
			return err
		}
	}
	return nil
}

// begin takes the routes as they were before the first basis to compare, and
// compares them at once if they are those of a basis.
func (r *replay) begin(ctx context.Context, state bus.StreamState) (*isthmusv1.Position, error) {
	from := max(r.options.From, exactFrom(state))
	if from <= 1 {
		return &isthmusv1.Position{Stream: state.Stream, Incarnation: state.Incarnation}, nil
	}
	t, err := bus.StateAt(ctx, r.options.Log, state.Stream, from)
	if err != nil {
		return nil, err
	}
	r.record(t)
	return t.Position(), r.compareAt(ctx, t)
}

// exactFrom is the first sequence at which a stream's whole state is known.
func exactFrom(state bus.StreamState) uint64 {
	if state.First <= 1 {
		return state.First
	}
	return state.First + uint64(state.MaxMessages)/2
}

// record takes a transaction of the routes.
func (r *replay) record(t *isthmusv1.Transaction) {
	for _, c := range t.Changes {
		if c.Key.Kind == isthmusv1.KindWriter || c.Key.Kind == isthmusv1.KindBasis {
			continue
		}
		r.touched[c.Key] = true
		if c.Tombstone {
			delete(r.recorded, c.Key)
		} else {
			r.recorded[c.Key] = c.Bytes
		}
	}
}

// compareAt drives the machine to the basis of a transaction and compares. A
// transaction without one is a part of a difference: there is nothing to
// compare yet.
func (r *replay) compareAt(ctx context.Context, t *isthmusv1.Transaction) error {
	basis := t.End.GetBasis()
	if basis == nil {
		return nil
	}
	if rules := t.End.GetRulesVersion(); rules != resolver.RulesVersion {
		r.skip(fmt.Sprintf("#%d was recorded by rules %d, these are %d", t.Sequence, rules, resolver.RulesVersion))
		return nil
	}
	steps, err := r.catalogs.advance(ctx, basis)
	if errors.Is(err, bus.ErrNotRetained) || errors.Is(err, bus.ErrIncarnation) || errors.Is(err, bus.ErrNoStream) {
		r.skip(fmt.Sprintf("#%d: %v", t.Sequence, err))
		return nil
	}
	if err != nil {
		return err
	}
	r.result.Events += len(steps)
	if err := r.resolve(); err != nil {
		return err
	}
	if r.result.Bases == 0 {
		r.result.From = t.Sequence
	}
	r.result.Bases++
	r.result.To, r.result.LiveKeys = t.Sequence, len(r.recorded)
	r.compare(t, steps)
	return nil
}

func (r *replay) skip(why string) {
	r.result.Skipped++
	r.result.Why, r.all = why, true
}

// resolve takes what the machine has become.
func (r *replay) resolve() error {
	update := r.catalogs.machine.Ready()
	if update == nil {
		return nil
	}
	for _, o := range update.Changes {
		r.touched[o.Key] = true
		if o.Value == nil {
			delete(r.resolved, o.Key)
			continue
		}
		value, err := isthmusv1.Marshal(o.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
		r.resolved[o.Key] = value
	}
	return nil
}

func (r *replay) compare(t *isthmusv1.Transaction, steps []step) {
	keys := slices.Collect(maps.Keys(r.touched))
	if r.all {
		keys = slices.AppendSeq(keys, maps.Keys(r.recorded))
		keys = slices.AppendSeq(keys, maps.Keys(r.resolved))
	}
	isthmusv1.SortKeys(keys)
	keys = slices.Compact(keys)
	r.result.Keys += len(keys)
	clear(r.touched)
	r.all = false
	for _, key := range keys {
		recorded, inLog := r.recorded[key]
		resolved, inMachine := r.resolved[key]
		if inLog == inMachine && bytes.Equal(recorded, resolved) {
			continue
		}
		r.result.Difference = &ReplayDifference{
			Sequence: t.Sequence, Basis: t.End.GetBasis().Text(), Key: key.String(),
			Recorded: inLog, Resolved: inMachine, Details: details(key, recorded, resolved, inLog && inMachine),
			Events: events(steps),
		}
		return
	}
}

// details says what differs between two values of a key.
func details(key isthmusv1.Key, recorded, resolved []byte, both bool) []string {
	a, b := isthmusv1.NewValue(key.Kind), isthmusv1.NewValue(key.Kind)
	if !both || a == nil || proto.Unmarshal(recorded, a) != nil || proto.Unmarshal(resolved, b) != nil {
		return []string{}
	}
	return Describe(a, b)
}

func events(steps []step) []Event {
	out := make([]Event, len(steps))
	for i, s := range steps {
		out[i] = s.event()
	}
	return out
}
