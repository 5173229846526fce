package watcher

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// ErrUnusable says that what the source holds now cannot be taken as it is, such as a
// directory with a bad file. What was published stays, and the source says so
// itself; it calls [Sink.Changed] when there is something to be read again.
var ErrUnusable = errors.New("the source's content is not usable as it is")

// Source is where a datacenter's catalog comes from. It hands over whole
// contents and applies no rule: no filtering, no joining, no defaults.
//
// A source is cut into scopes, each of which is seen as a whole: a Consul query
// with its answers, or a whole directory. A key stands in one scope. Run,
// Read and ReadAll may be called at the same time, Read several times at once.
type Source interface {
	// Run watches until the context ends and returns its cause, or an error that
	// no waiting heals. It tells the sink which scopes there are, then each
	// scope's content, and again after every change.
	Run(ctx context.Context, sink Sink) error

	// Read reads one scope consistently: nothing that was already visible in the
	// source when the call began is missing, or the state is Partial. A scope that
	// is gone has no values, at the index of that answer. Possible error: [ErrUnusable], and whatever
	// keeps the source from being read.
	Read(ctx context.Context, scope string) (State, error)

	// ReadAll reads every scope that there is consistently. Errors are as of Read.
	ReadAll(ctx context.Context) ([]State, error)
}

// Sink is what a source tells about itself. Its methods do not block.
type Sink interface {
	// Scopes names all scopes that there are; those not named are gone, with
	// their keys. Nothing is written before it was called and every scope's
	// content is known.
	Scopes(names []string)

	// Present hands over the whole content of a scope of a source with indexes.
	// The state must not be written to afterwards.
	Present(state State)

	// Changed says that a scope of a source without indexes is to be read.
	Changed(scope string)

	// Live says whether the source is seen now; nil is yes. A source is not live
	// before it says so, and a watcher takes over only while its own is.
	Live(err error)
}

// State is the whole content of one scope.
type State struct {
	// Scope is the query's name: stable over restarts and equal in all watchers
	// of the source.
	Scope string
	// Index is the source's index of this content (X-Consul-Index), and After
	// that of the content seen before it. Index 0: the source has no indexes.
	Index, After uint64
	// Values in any order; a key stands once.
	Values []Value
	// Partial says why the source may have shown only a part of the scope, as when
	// access control keeps rows from an answer; empty: it showed all. What is
	// missing then is not gone: the last good value stays.
	Partial string
	// Covers reports of a key that stands in no scope whether it may belong to the
	// part that was not shown. Nil: none does. Only asked while Partial.
	Covers func(isthmusv1.Key) bool
}

// Value is one value of a scope.
type Value struct {
	Key   isthmusv1.Key
	Value proto.Message
	// Source is the place in a file. Nil: the scope and its indexes are meant.
	Source *isthmusv1.Source
}

// source is where the value was seen, as its envelope says it.
func (s *State) source(v Value) *isthmusv1.Source {
	if v.Source != nil {
		return v.Source
	}
	return &isthmusv1.Source{Query: s.Scope, IndexAfter: s.After, IndexAt: s.Index}
}
