package table

import (
	"maps"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Route is where one server name, or all names under a suffix, lead. It is
// immutable but for its set and its counters, which later routes of the same
// name share.
type Route struct {
	// Name is the server name in lower case, or "*" and the suffix of a
	// wildcard.
	Name string
	// Wildcard: Name stands for all names under it.
	Wildcard bool
	// Datacenter is the other datacenter of a wildcard; empty for a name.
	Datacenter string
	// ConnectTimeout is the time that one endpoint has to answer; zero leaves
	// it to the engine.
	ConnectTimeout time.Duration
	// Endpoints is never nil.
	Endpoints *Set
	// Counters is never nil.
	Counters *Counters
}

// Near reports whether the route leads to services of the own datacenter; a
// wildcard leads to the gateways of another.
func (r *Route) Near() bool { return !r.Wildcard }

// shards is how many parts the names are kept in: setting one name copies one
// part and the list of them.
const shards = 256

// Table is an immutable set of routes. The zero Table is empty and ready.
type Table struct {
	// Routes is the position in the routes stream that the table stands for,
	// Basis what the resolver computed it from; nil when not known. They are
	// for records and reports.
	Routes *isthmusv1.Position
	Basis  *isthmusv1.Basis
	// Own is the gateway's own registration; nil when none is followed.
	Own *Own
	// Settings are what that says of connections.
	Settings Settings

	names     *[shards]map[string]*Route
	nameCount int
	// wildcards by suffix without the leading dot.
	wildcards map[string]*Route
	// shortest and longest wildcard suffix, so that a look-up does not hash
	// every suffix of a hostile name.
	shortest, longest int
}

// Lookup returns the route of a server name, which must be in lower case: the
// exact name's, else that of the longest wildcard suffix with at least one
// label before it; nil when there is none.
func (t *Table) Lookup(name []byte) *Route {
	if t.names != nil {
		if r, ok := t.names[shardOf(name)][string(name)]; ok {
			return r
		}
	}
	if len(t.wildcards) == 0 {
		return nil
	}
	for i := 1; i < len(name); i++ {
		if name[i-1] != '.' || i == 1 || len(name)-i > t.longest {
			continue
		}
		if len(name)-i < t.shortest {
			return nil
		}
		if r, ok := t.wildcards[string(name[i:])]; ok {
			return r
		}
	}
	return nil
}

// shardOf is FNV-1a, folded to one byte.
func shardOf[S string | []byte](name S) byte {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return byte(h ^ h>>8 ^ h>>16 ^ h>>24)
}

// Len returns the number of exact names and of wildcards.
func (t *Table) Len() (names, wildcards int) { return t.nameCount, len(t.wildcards) }

// With returns a table in which the given routes are set, by their names, after
// the named ones were dropped. The receiver is not changed; all parts without a
// change are shared.
func (t *Table) With(set []*Route, drop []string) *Table {
	next := *t
	if len(set) == 0 && len(drop) == 0 {
		return &next
	}
	edit := editor{table: &next, own: make(map[byte]bool)}
	for _, name := range drop {
		edit.drop(name)
	}
	for _, route := range set {
		edit.set(route)
	}
	next.shortest, next.longest = 0, 0
	for suffix := range next.wildcards {
		if next.shortest == 0 || len(suffix) < next.shortest {
			next.shortest = len(suffix)
		}
		next.longest = max(next.longest, len(suffix))
	}
	return &next
}

// editor copies each part of a table before the first write to it.
type editor struct {
	table *Table
	// own are the shards that were copied.
	own          map[byte]bool
	ownWildcards bool
}

func (e *editor) shard(name string) map[string]*Route {
	if len(e.own) == 0 {
		names := new([shards]map[string]*Route)
		if e.table.names != nil {
			*names = *e.table.names
		}
		e.table.names = names
	}
	i := shardOf(name)
	if !e.own[i] {
		e.own[i] = true
		e.table.names[i] = cloned(e.table.names[i])
	}
	return e.table.names[i]
}

func (e *editor) wildcards() map[string]*Route {
	if !e.ownWildcards {
		e.ownWildcards = true
		e.table.wildcards = cloned(e.table.wildcards)
	}
	return e.table.wildcards
}

func cloned(m map[string]*Route) map[string]*Route {
	if m == nil {
		return make(map[string]*Route)
	}
	return maps.Clone(m)
}

// suffixOf returns the key of a wildcard, without star and dot.
func suffixOf(name string) (string, bool) {
	return strings.CutPrefix(name, "*.")
}

func (e *editor) drop(name string) {
	if suffix, ok := suffixOf(name); ok {
		delete(e.wildcards(), suffix)
		return
	}
	shard := e.shard(name)
	if _, ok := shard[name]; ok {
		delete(shard, name)
		e.table.nameCount--
	}
}

func (e *editor) set(route *Route) {
	if suffix, ok := suffixOf(route.Name); ok {
		e.wildcards()[suffix] = route
		return
	}
	shard := e.shard(route.Name)
	if _, ok := shard[route.Name]; !ok {
		e.table.nameCount++
	}
	shard[route.Name] = route
}

// All yields every route, in no order. It is for reports, not for connections.
func (t *Table) All(yield func(*Route) bool) {
	if t.names != nil {
		for _, shard := range t.names {
			for _, route := range shard {
				if !yield(route) {
					return
				}
			}
		}
	}
	for _, route := range t.wildcards {
		if !yield(route) {
			return
		}
	}
}
