//go:build linux

package loop

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// remote is a program at the far end of a connection: a client, or an endpoint.
type remote struct {
	w *world
	// name is what it is, for a client the server name that it asks for.
	name string
	end  *end
	// ours is the gateway's end.
	ours   *end
	client bool
	kind   clientKind
	// upstream is the endpoint's connection that a client was led to.
	upstream *end
	joined   bool
	recorded bool

	// limit is how much it says before it does what finish says.
	limit  int
	finish finish
	// lazy: it does not read until all comes to its end.
	lazy                          bool
	silent, refuses, answersLater bool
	sawEnd, sawReset, ended       bool
}

type clientKind int

const (
	toService clientKind = iota
	toUnknown
	withoutName
	notTLS
	malformed
	badProxy
)

// finish is how a remote ends.
type finish int

const (
	// halfCloses ends what it says, and goes on reading.
	halfCloses finish = iota
	// closes hears nothing any more.
	closes
	resets
	// waits says nothing until all comes to its end.
	waits
)

var scales = []struct{ buffer, bytes int }{{400, 1500}, {20 << 10, 60 << 10}, {400 << 10, 700 << 10}}

func (w *world) newRemote(ours *end, out *stream, client bool) *remote {
	i := len(w.remotes)
	r := &remote{w: w, ours: ours, client: client, finish: finish(w.below(6)), lazy: w.below(12) == 11}
	if r.finish > waits {
		r.finish = halfCloses
	}
	r.name = "endpoint"
	if client {
		r.name = "client"
	}
	scale := scales[w.scale]
	size := func() int { return 16 + w.below(scale.buffer) }
	if w.scale == 2 {
		size = func() int { return 130<<10 + w.below(scale.buffer) }
	}
	r.end = &end{k: w.simulated, peer: ours, name: r.name, fd: -1, window: size(), buffer: size(), out: out}
	*ours = end{k: w.simulated, peer: r.end, name: fmt.Sprintf("%s %d", r.name, i), fd: -1, window: size(), buffer: size()}
	ours.ledger.remote = r
	out.start = w.below(period)
	out.size = len(out.head)
	if w.below(4) < 3 {
		out.size += w.below(scale.bytes)
	}
	r.limit = out.size
	if r.finish >= resets {
		r.limit = w.below(out.size + 1)
	}
	w.remotes = append(w.remotes, r)
	return r
}

// names are the server names of services, by their route.
var names = []string{"a.example", "b.example", "none.example", "x.wild.example"}

func (w *world) newClient() {
	kind := toService
	if w.below(6) == 5 {
		kind = clientKind(w.below(6))
	}
	name := names[[]int{0, 0, 0, 1, 3, 2}[w.below(6)]]
	if w.cfg.OpenAhead > 0 && w.below(4) < 3 {
		name = names[3]
	}
	padding := w.below([]int{40, 1500, 9000}[w.scale])
	out := &stream{}
	mark := uint32(len(w.clients))
	switch kind {
	case toService:
		out.head = helloOf(mark, name, padding)
	case toUnknown:
		out.head = helloOf(mark, "unknown.example", padding)
	case withoutName:
		out.head = helloOf(mark, nameless, padding)
	case notTLS:
		out.head = []byte("GET / HTTP/1.1\r\n\r\n")
	case malformed:
		out.head = helloOf(mark, name, padding)
		binary.BigEndian.PutUint16(out.head[markAt+34:], 3)
	case badProxy:
		out.head = helloOf(mark, name, padding)
	}
	if len(w.cfg.ProxyNetworks) > 0 && w.below(2) == 1 {
		header := "PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"
		if kind == badProxy {
			header = "PROXY TCP9 192.0.2.1\r\n"
		}
		out.skip = len(header)
		out.head = append([]byte(header), out.head...)
	} else if kind == badProxy {
		kind = toService
	}
	r := w.newRemote(new(end), out, true)
	r.kind, r.name = kind, name
	w.clients = append(w.clients, r)
	l := w.listeners[w.below(len(w.listeners))]
	l.queue = append(l.queue, r.ours)
	l.peers = append(l.peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(1000+mark)))
	w.note("%s comes: kind %d %q, says %d (head %d), %d by %d", r.ours.name, kind, name, out.size, len(out.head), r.finish, r.limit)
	if w.below(2) == 0 {
		r.write()
		r.ours.peer.bring()
	}
}

func (w *world) makeTable() {
	w.table = &table.Table{}
	var routes []*table.Route
	for i, name := range names {
		set := table.NewSet(table.Ejection{})
		set.Replace(endpointsOf()[i], nil)
		w.sets = append(w.sets, set)
		route := &table.Route{Name: name, Endpoints: set, Counters: &table.Counters{}}
		if i == 3 {
			route.Name, route.Wildcard, route.Datacenter = "*.wild.example", true, "far"
		}
		routes = append(routes, route)
	}
	w.routes = routes
	w.table = w.table.With(routes, nil)
}

// endpointsOf are the endpoints by route.
var endpointsOf = sync.OnceValue(func() (of [4][]*isthmusv1.Endpoint) {
	for route, n := range []int{3, 1, 0, 1} {
		for i := range n {
			of[route] = append(of[route], &isthmusv1.Endpoint{
				Address: fmt.Sprintf("10.0.%d.%d", route, i), Port: 1, Weight: 1, Health: isthmusv1.Health_HEALTH_HEALTHY,
			})
		}
	}
	_, self := own()
	of[0] = append(of[0], &isthmusv1.Endpoint{
		Address: self.Addr().String(), Port: uint32(self.Port()), Weight: 1, Health: isthmusv1.Health_HEALTH_HEALTHY,
	})
	return of
})

// changeTable has endpoints leave and return, and routes too.
func (w *world) changeTable() {
	route := w.below(len(names))
	all := endpointsOf()[route]
	if route == 3 && w.cfg.OpenAhead > 0 {
		return // A loop would have several pools, in any order.
	}
	w.note("route %d changes", route)
	if w.below(4) == 3 {
		w.table = w.table.With(nil, []string{names[0]})
		return
	}
	w.sets[route].Replace(slices.Clone(all[:w.below(len(all)+1)]), nil)
}

// amount is some of n, most often all.
func (k *simulated) amount(n int) int {
	if n <= 1 {
		return n
	}
	switch k.below(6) {
	case 5:
		return 1
	case 4, 3:
		return 1 + k.below(n)
	}
	return n
}

// act is one thing that happens at the remote, or on the way.
func (r *remote) act() {
	switch r.w.below(6) {
	case 0:
		r.write()
	case 1:
		r.end.bring()
	case 2:
		r.ours.bring()
	case 3:
		if !r.lazy {
			r.read()
		}
	case 4:
		r.finishUp(false)
	case 5:
		r.relieve()
		if r.w.below(4) == 3 {
			r.ours.timeout()
		}
		if r.answersLater {
			r.answer()
		}
		if r.refuses {
			r.refuses = false
			r.end.abort()
		}
	}
}

// settle does all that is left to do.
func (r *remote) settle() {
	r.relieve()
	switch {
	case r.answersLater:
		r.answer()
	case r.refuses:
		r.refuses = false
		r.end.abort()
	}
	for range 2 {
		r.write()
		r.end.bring()
		r.ours.bring()
		for r.read() {
		}
		r.finishUp(true)
	}
}

// bring has the network bring some of what is under way from an end.
func (e *end) bring() {
	if !e.pending() {
		return
	}
	e.deliver(e.k.amount(e.movable()))
}

// relieve ends a lack of memory.
func (r *remote) relieve() {
	if r.ours.pressed {
		r.ours.pressed = false
		r.ours.spaced()
	}
}

func (r *remote) answer() {
	r.answersLater = false
	if r.ours.dead || r.end.dead {
		return
	}
	r.end.connecting = false
	r.ours.establish()
}

func (r *remote) write() {
	left := r.limit - r.end.written
	if left <= 0 || r.end.orphan || r.end.connecting {
		return
	}
	if n, err := r.end.writable(); err == 0 {
		r.end.put(r.w.amount(min(n, left)))
	}
}

// read reads some, and reports whether there was something to read.
func (r *remote) read() bool {
	if r.end.orphan || r.end.connecting || r.sawEnd || r.sawReset {
		return false
	}
	n, err := r.end.readable()
	switch {
	case n > 0:
		r.end.take(r.w.amount(n))
		return true
	case err == 0:
		r.sawEnd = true
	case !isAgain(err):
		r.sawReset = true
	}
	return false
}

// finishUp ends what the remote says, once it has said it.
func (r *remote) finishUp(last bool) {
	e := r.end
	if r.ended || e.connecting || e.dead || e.written < r.limit && !last || r.finish == waits && !last {
		return
	}
	if last && r.finish <= closes && e.written < r.limit {
		return // It has more to say.
	}
	if last && r.finish == waits && r.w.below(4) == 3 && r.client && !r.joined {
		return // It never says anything again.
	}
	r.ended = true
	r.w.note("%s finishes: %d", r.ours.name, r.finish)
	switch r.finish {
	case halfCloses, waits:
		e.shut()
	case closes:
		e.closed()
	case resets:
		e.abort()
	}
}
