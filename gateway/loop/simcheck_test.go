//go:build linux

package loop

import (
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// checkNothingLost finds what could be done and nothing will tell of, when the
// loop is about to wait.
func (w *world) checkNothingLost(l *loop) {
	for c := range l.slots.all() {
		switch c.state {
		case waiting, lingering:
			in := w.endOf(c, client)
			if in.hasNews() && !in.ready && !in.pressed {
				w.fail("nobody will look at %v", in)
			}
		case connecting, dialling:
			out := w.endOf(c, upstream)
			if !out.ready && (!out.connecting || out.err != 0) && !out.pressed {
				w.fail("nobody will look at %v", out)
			}
		case ready:
			if out := w.endOf(c, upstream); out.hasNews() && !out.ready && !out.pressed {
				w.fail("nobody will look at %v", out)
			}
		case joined:
			in, out := w.endOf(c, client), w.endOf(c, upstream)
			w.checkFlow(in, out)
			w.checkFlow(out, in)
		case free:
		}
	}
}

// all are the slots in use.
func (s *slots) all() iter.Seq[*connection] {
	return func(yield func(*connection) bool) {
		for _, chunk := range s.chunks {
			for i := range chunk {
				if chunk[i].state != free && !yield(&chunk[i]) {
					return
				}
			}
		}
	}
}

// endOf is a side of a connection, which must be open.
func (w *world) endOf(c *connection, s side) *end {
	fd := int(c.sockets[s].fd)
	if fd >= firstFD && fd < len(w.files) {
		if e, is := w.files[fd].(*end); is && c.sockets[s].isThere {
			return e
		}
	}
	w.fail("slot %d has no open socket on side %d", c.slot, s)
	return nil
}

// hasNews reports whether a read would not find EAGAIN, and the gateway does not
// know of it.
func (e *end) hasNews() bool {
	return e.arrived > e.taken || e.finArrived && !e.ledger.ended || e.err != 0
}

// checkFlow finds bytes, an end or an error that should go from one side to the
// other, and nothing hinders.
func (w *world) checkFlow(from, to *end) {
	if from.ready || to.ready || to.pressed {
		return
	}
	_, at := to.source()
	undone := from.hasNews() || from.taken != at || from.ledger.ended && !to.shutWrites
	if undone && (to.shutWrites || to.roomy()) {
		w.fail("nobody will move what is left from %v to %v: at %d", from, to, at)
	}
}

// checkTurn holds what must be true after each turn of a loop.
func (w *world) checkTurn(l *loop) {
	inUse, inPipes, held := 0, 0, w.held
	for c := range l.slots.all() {
		inUse++
		w.checkDeadline(c)
		w.checkKnown(c)
		w.checkState(c)
		for j := range c.flows {
			f := &c.flows[j]
			if f.block != nil {
				held++
			}
			if f.pipe == nil {
				continue
			}
			inPipes++
			if f.pipe.holds == 0 {
				w.fail("a flow of slot %d keeps an empty pipe", c.slot)
			}
		}
	}
	if inUse != l.slots.inUse || l.pipes.made != inPipes+len(l.pipes.unused) || l.held != held {
		w.fail("%d slots are in use, %d pipes and %d blocks; counted are %d, %d of %d, and %d", inUse, inPipes, held, l.slots.inUse, l.pipes.made, l.pipes.made-len(l.pipes.unused), l.held)
	}
	w.checkCounts()
}

// checkState finds what a connection should have left behind.
func (w *world) checkState(c *connection) {
	for s := range c.sockets {
		// While an endpoint is sought, the client may have to wait.
		if c.sockets[s].isThere && (c.state != connecting || side(s) == upstream) {
			if e := w.endOf(c, side(s)); !e.watched {
				w.fail("slot %d is in state %d, and %s is not watched", c.slot, c.state, e.name)
			}
		}
	}
	switch c.state {
	case waiting:
		if r := w.endOf(c, client).ledger.remote; r.isWhole() {
			w.fail("%s waits for its hello, which has come", r.ours.name)
		}
	case lingering:
		if c.sockets[upstream].isThere {
			w.fail("slot %d lingers, and keeps its endpoint", c.slot)
		}
	case joined:
		out := w.endOf(c, upstream)
		if now := w.now; !out.ledger.kept && !c.big && now >= out.ledger.joinedAt+int64(visitEvery) {
			w.fail("%s was joined %s ago, and is not probed", out.name, time.Duration(now-out.ledger.joinedAt))
		}
		near := nearSide(c.route)
		if is, other := w.endOf(c, near), w.endOf(c, near.other()); is.ledger.unpaced != 0 != c.big || is.ledger.unpaced > 1 || other.ledger.unpaced != 0 {
			w.fail("%s was unpaced %d times, %s behind it %d times; big: %t", is.name, is.ledger.unpaced, other.name, other.ledger.unpaced, c.big)
		}
	default:
	}
}

// checkLimits holds the limits.
func (w *world) checkLimits(halfOpen int) {
	asked := 0
	networks := map[netip.Addr]int{}
	for _, l := range w.loops {
		asked += len(l.mail.mails)
		for c := range l.slots.all() {
			// Who may name another source, and does not, is a load balancer.
			if c.peer.IsValid() && c.state != waiting && (c.source != c.peer || !w.cfg.MayProxy(c.peer)) {
				networks[c.source.Addr()]++
			}
		}
	}
	for _, route := range w.routes {
		if busy := route.Counters.Busy.Load(); w.cfg.MaxPerRoute > 0 && busy > int64(w.cfg.MaxPerRoute) {
			w.fail("%s has %d connections", route.Name, busy)
		}
	}
	for of, n := range networks {
		if w.cfg.MaxPerNetwork > 0 && n > w.cfg.MaxPerNetwork && !w.lingers(of) {
			w.fail("%s has %d connections", of, n)
		}
	}
	if halfOpen > w.cfg.MaxHalfOpen && asked == 0 {
		w.fail("%d wait for their hello", halfOpen)
	}
}

// lingers reports whether a refused connection of a source is left.
func (w *world) lingers(of netip.Addr) bool {
	for _, l := range w.loops {
		for c := range l.slots.all() {
			if c.state == lingering && c.source.Addr() == of {
				return true
			}
		}
	}
	return false
}

// checkKnown finds what a loop believes of a socket, and is not so: it was told by
// an event of another.
func (w *world) checkKnown(c *connection) {
	for s := range c.sockets {
		if k := &c.sockets[s]; k.isThere {
			if e := w.endOf(c, side(s)); (k.hung || k.broken) && !e.shutReads && !e.dead && e.err == 0 {
				w.fail("slot %d believes that %s has ended or failed, which it has not", c.slot, e.name)
			}
		}
	}
}

// checkCounts holds the counters of all loops against what has happened.
func (w *world) checkCounts() {
	stats := table.EngineStats{Ended: make(map[table.Reason]uint64)}
	halfOpen, ended := 0, uint64(0)
	// unsettled are those that may be led to another endpoint still.
	unsettled := map[*remote]bool{}
	routesIn, routesOut := uint64(0), uint64(0)
	for _, route := range w.routes {
		routesIn, routesOut = routesIn+route.Counters.BytesIn.Load(), routesOut+route.Counters.BytesOut.Load()
	}
	for _, l := range w.loops {
		l.counts.AddTo(&stats)
		for c := range l.slots.all() {
			switch c.state {
			case waiting:
				halfOpen++
			case connecting, lingering:
				// It may have been joined to a connection that was opened ahead.
				w.endOf(c, client).ledger.remote.joined = false
			case joined:
				r := w.endOf(c, client).ledger.remote
				unsettled[r] = c.opening != nil
				if r.ours.ledger.failed || r.upstream.ledger.failed {
					w.fail("%s goes on, though it or %s has failed", r.ours.name, r.upstream.name)
				}
			}
		}
	}
	for _, n := range stats.Ended {
		ended += n
	}
	open := int64(w.accepts - w.records)
	if stats.Accepted != uint64(w.accepts) || ended != uint64(w.records) || open != stats.Open || open != w.shared.open.Load() {
		w.fail("%d accepted, %d records; counted are %+v, and %d open", w.accepts, w.records, stats, w.shared.open.Load())
	}
	if int64(halfOpen) != stats.HalfOpen || int64(halfOpen) != w.shared.halfOpen.Load() {
		w.fail("%d wait for their hello, counted are %d and %d", halfOpen, stats.HalfOpen, w.shared.halfOpen.Load())
	}
	w.checkLimits(halfOpen)
	in, out := uint64(0), uint64(0)
	for _, c := range w.clients {
		if c.joined && !unsettled[c] {
			in, out = in+uint64(c.upstream.ledger.put), out+uint64(c.ours.ledger.put)
		}
	}
	if routesIn != in || routesOut != out {
		w.fail("%d bytes were moved in and %d out, counted for routes are %d and %d", in, out, routesIn, routesOut)
	}
	if in != stats.BytesIn || out != stats.BytesOut {
		w.fail("%d bytes were moved in and %d out, counted are %d and %d", in, out, stats.BytesIn, stats.BytesOut)
	}
}

// checkDeadline finds what has taken too long.
func (w *world) checkDeadline(c *connection) {
	var since int64
	var longest time.Duration
	switch c.state {
	case waiting:
		since, longest = c.start, w.cfg.HelloTimeout
	case connecting, dialling:
		since, longest = w.endOf(c, upstream).ledger.since, w.cfg.ConnectTimeout
	case lingering:
		since, longest = w.endOf(c, client).ledger.shutAt, engine.LingerTime
	default:
		return
	}
	if w.now >= since+int64(longest) {
		w.fail("slot %d is in state %d since %s", c.slot, c.state, time.Duration(w.now-since))
	}
}

// checkEnd holds what must be true when all has ended.
func (w *world) checkEnd() {
	if open := w.openOnes(); len(open) > 0 {
		w.fail("descriptors %v are left open", open)
	}
	for _, l := range w.loops {
		if l.waiting.first != nil || l.aging.first != nil || w.shared.memory.Used() != 0 || l.big.Load() != 0 {
			w.fail("%d bytes of hellos are left, %d big ones, or lists are not empty", w.shared.memory.Used(), l.big.Load())
		}
	}
	for _, of := range []string{"127.0.0.1", "192.0.2.1"} {
		if w.shared.networks.Enter(netip.MustParseAddr(of), 1) != nil {
			w.fail("a connection of %s is still counted", of)
		}
	}
	for _, set := range w.sets {
		for _, e := range set.Endpoints() {
			if e.Counters.Open.Load() != 0 {
				w.fail("endpoint %s has %d open", e.Name, e.Counters.Open.Load())
			}
		}
	}
	for _, route := range w.routes {
		if route.Counters.Open.Load() != 0 || route.Counters.Busy.Load() != 0 {
			w.fail("route %s has %d open, %d busy", route.Name, route.Counters.Open.Load(), route.Counters.Busy.Load())
		}
	}
	for _, c := range w.clients {
		w.checkArrived(c)
	}
}

// checkArrived holds what the two ends of a connection must have seen.
func (w *world) checkArrived(c *remote) {
	whole := func(r *remote, from *end) bool {
		return r.end.orphan || r.sawEnd && !r.sawReset && r.end.taken == from.peer.written-from.peer.out.skip
	}
	us := c.ours.ledger
	switch {
	case c.joined && us.shutAt > 0 && c.upstream.ledger.shutAt > 0 && !us.reset && !c.upstream.ledger.reset:
		e := c.upstream.ledger.remote
		if !us.broken() && !c.upstream.ledger.broken() && (!whole(e, c.ours) || !whole(c, c.upstream)) {
			w.fail("not all has arrived: %v, %v", c.end, e.end)
		}
	case us.alert > 0 && !us.broken() && us.ended && !c.end.orphan:
		if c.end.taken != us.alert || !c.sawEnd {
			w.fail("the alert has not arrived at %v", c.end)
		}
	}
}

func (w *world) describe() string {
	var b strings.Builder
	for _, r := range w.remotes {
		fmt.Fprintf(&b, "\n  %v, %v", r.ours, r.end)
	}
	return b.String()
}
