package history

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// Moment is the resolver's machine of a datacenter at one basis.
type Moment struct {
	Machine *resolver.Machine
	Basis   *isthmusv1.Basis
	// Found says in a sentence how the basis was found.
	Found string
}

// Head is the moment of now: every catalog at its end. It waits for those of
// the named datacenters; others that are there are taken along.
//
// Possible errors: [bus.ErrNoStream] when the datacenter has no catalog, and the
// context's cause, with what was still waited for.
func Head(ctx context.Context, log bus.Log, datacenter string, others ...string) (*Moment, error) {
	own := isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter)
	if _, err := log.State(ctx, own); err != nil {
		return nil, fmt.Errorf("%s: %w", own, err)
	}
	moment := &Moment{Machine: resolver.New(datacenter), Found: "the head of every catalog"}
	streams := []string{own}
	for _, other := range others {
		if stream := isthmusv1.StreamName(isthmusv1.ClassCatalog, other); stream != own {
			streams = append(streams, stream)
		}
	}
	drive := bus.Drive{
		Log: log, Streams: streams, Discover: isthmusv1.ClassCatalog,
		Machine: bus.MachineFunc(func(t *isthmusv1.Transaction) { Feed(moment.Machine, t) }),
		Emit: func(_ context.Context, basis *isthmusv1.Basis) error {
			moment.Basis = basis
			return errSettled
		},
	}
	if err := drive.Run(ctx); !errors.Is(err, errSettled) {
		return nil, errors.Join(err, drive.Ready())
	}
	return moment, nil
}

// errSettled ends the drive of [Head].
var errSettled = errors.New("settled")

// Feeder is what a resolver's machine takes in.
type Feeder interface {
	Apply(*isthmusv1.Transaction)
	RemoveStream(name string)
}

// Feed gives a transaction to the resolver's machine. A [bus.Drive] says that a
// datacenter has departed by an empty Reset of no incarnation.
func Feed(machine Feeder, t *isthmusv1.Transaction) {
	if t.Reset && t.Incarnation == "" && t.Sequence == 0 && len(t.Changes) == 0 {
		machine.RemoveStream(t.Stream)
		return
	}
	machine.Apply(t)
}

// At is the moment of a sequence of the datacenter's own catalog. The other
// catalogs stand where the newest basis recorded at or below that sequence has
// them; where none is recorded, at their ends, and Found says so.
//
// Possible errors: [bus.ErrNoStream], [bus.ErrNotRetained], [bus.ErrNotYet],
// [bus.ErrIncarnation].
func At(ctx context.Context, log bus.Log, datacenter string, sequence uint64) (*Moment, error) {
	own := isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter)
	state, err := bus.StateAt(ctx, log, own, sequence)
	if err != nil {
		return nil, err
	}
	moment := &Moment{Machine: resolver.New(datacenter), Basis: new(isthmusv1.Basis)}
	moment.add(state)

	others, at, err := recordedBasis(ctx, log, datacenter, state.Position())
	if err != nil {
		return nil, err
	}
	if others != nil {
		moment.Found = fmt.Sprintf("%s at %d; the other catalogs as in the basis recorded by %s at %d", own, sequence, isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter), at)
	} else {
		moment.Found = fmt.Sprintf("%s at %d; no basis is recorded at or below it, so the other catalogs are at their ends", own, sequence)
		if others, err = ends(ctx, log); err != nil {
			return nil, err
		}
	}
	for _, position := range others.GetPositions() {
		if position.GetStream() == own {
			continue
		}
		state, err := bus.StateAt(ctx, log, position.GetStream(), position.GetSequence())
		if err != nil {
			return nil, err
		}
		if position.GetIncarnation() != "" && state.Incarnation != position.GetIncarnation() {
			return nil, fmt.Errorf("%s was made again since: %w", position.GetStream(), bus.ErrIncarnation)
		}
		moment.add(state)
	}
	return moment, nil
}

func (m *Moment) add(state *isthmusv1.Transaction) {
	m.Machine.Apply(state)
	m.Basis = m.Basis.With(state.Position())
}

// recordedBasis is the newest basis that the datacenter's routes record with the
// own catalog at or below a position, and its sequence; nil when there is none.
func recordedBasis(ctx context.Context, log bus.Log, datacenter string, own *isthmusv1.Position) (*isthmusv1.Basis, uint64, error) {
	routes := isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter)
	var (
		newest *isthmusv1.Basis
		at     uint64
	)
	for m, err := range messages(ctx, log, routes) {
		if errors.Is(err, bus.ErrNoStream) {
			return nil, 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		_, envelope, err := read(routes, m)
		if err != nil {
			return nil, 0, err
		}
		position := envelope.GetEnd().GetBasis().At(own.GetStream())
		if position == nil || position.GetIncarnation() != own.GetIncarnation() {
			continue
		}
		if position.GetSequence() > own.GetSequence() {
			break // A later basis has no lower position.
		}
		newest, at = envelope.GetEnd().GetBasis(), m.Sequence
	}
	return newest, at, nil
}

// messages yields all messages that a stream holds; none of an empty one.
func messages(ctx context.Context, log bus.Log, stream string) iter.Seq2[bus.Message, error] {
	return func(yield func(bus.Message, error) bool) {
		state, err := log.State(ctx, stream)
		if err != nil {
			yield(bus.Message{}, err)
			return
		}
		if state.Messages == 0 {
			return
		}
		for m, err := range log.History(ctx, stream, 0, state.Last) {
			if !yield(m, err) {
				return
			}
		}
	}
}

// ends is every catalog at its end.
func ends(ctx context.Context, log bus.Log) (*isthmusv1.Basis, error) {
	streams, err := Streams(ctx, log, isthmusv1.ClassCatalog)
	if err != nil {
		return nil, err
	}
	basis := new(isthmusv1.Basis)
	for _, stream := range streams {
		state, err := log.State(ctx, stream)
		if err != nil {
			return nil, err
		}
		basis = basis.With(&isthmusv1.Position{Stream: stream, Incarnation: state.Incarnation, Sequence: state.Last})
	}
	return basis, nil
}
