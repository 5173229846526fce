//go:build linux

package loop

import (
	"net/netip"
	"strings"
	"syscall"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
)

// auditor is told of what a gateway does with its sockets.
type auditor interface {
	accepted(e *end)
	told(e *end, err syscall.Errno)
	hasRead(e *end, n int, err syscall.Errno)
	// writes is told what a write begins with, wrote of bytes that were taken,
	// spliced of a piece of what another end has said.
	writes(e *end, first []byte)
	wrote(e *end, b []byte)
	spliced(e, from *end, at, n int)
	hasWritten(e *end, err syscall.Errno)
	shut(e *end)
	closes(e *end, reset bool)
}

// ledger is what a gateway was told of one of its sockets, and did to it.
type ledger struct {
	// remote is who is at the far end; of is the client that an endpoint's
	// connection was made for.
	remote, of *remote
	address    netip.AddrPort
	// since is when it was dialed or accepted, shutAt when the gateway ended it.
	since, shutAt int64
	// ended: the gateway has read the end. failed: it was told of an error.
	ended, failed bool
	// unwatched: the kernel could not watch it.
	unwatched     bool
	closed, reset bool
	// alert is what was written of one.
	alert int
	// code is which alert; kept: it is probed. joinedAt is when it took the first
	// byte of the hello.
	code     uint8
	kept     bool
	joinedAt int64
	// unpaced is how often it was.
	unpaced int
	// putAt is when it last took bytes.
	putAt int64
	// inTurn is how many bytes it took in a turn.
	inTurn, turn int
	// put is how many bytes it took of the other side's.
	put int
}

func isAgain(err syscall.Errno) bool { return err == syscall.EAGAIN }

func (w *world) accepted(e *end) {
	e.ledger.since = w.now
	w.accepts++
}

func (w *world) told(e *end, err syscall.Errno) {
	if err != 0 && !isAgain(err) {
		e.ledger.failed = true
	}
}

func (w *world) hasRead(e *end, n int, err syscall.Errno) {
	w.told(e, err)
	if n == 0 && err == 0 {
		if e.ledger.ended && e.ledger.alert == 0 {
			w.fail("%s is read behind its end", e.name)
		}
		e.ledger.ended = true
	}
}

func (w *world) writes(e *end, first []byte) {
	if e.shutWrites && !e.dead {
		w.fail("a write to %s behind its end", e.name)
	}
	if e.ledger.remote.client || e.ledger.of != nil {
		return
	}
	c := w.clientOf(e)
	if c == nil || !c.end.out.equal(c.end.out.skip, first) {
		w.fail("%s is sent what is no client's hello: %x", e.name, first[:min(len(first), 16)])
	}
	if c.upstream != nil && c.upstream.fd >= 0 {
		w.fail("%s is led to %s, and is at %s", c.ours.name, e.name, c.upstream.name)
	}
	if c.ours.taken < len(c.end.out.head) || c.kind != toService {
		w.fail("%s is led to %s before its hello is whole, or for none", c.ours.name, e.name)
	}
	name := names[e.ledger.address.Addr().As4()[2]]
	if !strings.Contains(string(c.end.out.head), name) {
		w.fail("%s is led to an endpoint of %s", c.ours.name, name)
	}
	e.ledger.of, c.upstream = c, e
}

// clientOf is the client that the loop has dialed an endpoint for.
func (w *world) clientOf(e *end) *remote {
	for _, l := range w.loops {
		for c := range l.slots.all() {
			if c.state == connecting && int(c.sockets[upstream].fd) == e.fd {
				return w.endOf(c, client).ledger.remote
			}
		}
	}
	return nil
}

// source is whose bytes an end is sent, and at which of them that is; nil for an
// alert.
func (e *end) source() (from *end, at int) {
	if c := e.ledger.of; c != nil {
		return c.ours, e.ledger.put + c.end.out.skip
	}
	if r := e.ledger.remote; r.joined && r.upstream.fd >= 0 {
		return r.upstream, e.ledger.put
	}
	return nil, 0
}

func (w *world) wrote(e *end, b []byte) {
	w.join(e)
	from, at := e.source()
	switch {
	case from == nil:
		alert := hello.Alert(1).Record()
		if e.written != 0 || len(b) > len(alert) || string(b[:min(len(b), 6)]) != string(alert[:min(len(b), 6)]) {
			w.fail("%s is sent what is no alert: %x", e.name, b[:min(len(b), 16)])
		}
		e.ledger.alert, e.ledger.code = len(b), b[len(b)-1]
	case at+len(b) > from.taken || !from.peer.out.equal(at, b):
		w.fail("%s is sent other bytes than come at %d of %s (%d were read)", e.name, at, from.name, from.taken)
	default:
		w.puts(e, from, len(b))
	}
}

func (w *world) spliced(e, of *end, at, n int) {
	from, want := e.source()
	if from == nil || of != from.peer || at != want || at+n > from.taken {
		w.fail("%s is sent bytes %d of %s, not %d of its other side", e.name, at, of.name, want)
	}
	w.puts(e, from, n)
	w.census.events["spliced"]++
}

// puts counts bytes that an end takes. What one turn moves is bounded, so that
// others have theirs: each look at a connection moves its share, and what was read
// last, the first also what came with the hello.
func (w *world) puts(e, from *end, n int) {
	l := &e.ledger
	l.put += n
	l.putAt = w.now
	if l.turn != w.turnsTaken {
		l.turn, l.inTurn = w.turnsTaken, 0
	}
	l.inTurn += n
	if looks := w.eventsNow + 1; l.inTurn > looks*(w.share+from.window)+from.window+len(from.peer.out.head) {
		w.fail("%s takes %d bytes in one turn of %d events, a share is %d", e.name, l.inTurn, looks, w.share)
	}
}

// join notes that an endpoint has taken something.
func (w *world) join(e *end) {
	if c := e.ledger.of; c != nil {
		if e.ledger.put == 0 {
			e.ledger.joinedAt = w.now
		}
		c.joined = true
	}
}

func (w *world) hasWritten(e *end, err syscall.Errno) { w.told(e, err) }

func (w *world) shut(e *end) {
	if e.shutWrites && !e.dead {
		w.fail("%s is ended twice", e.name)
	}
	e.ledger.shutAt = w.now
	from, at := e.source()
	switch {
	case from == nil:
		if e.ledger.alert != len(hello.Alert(0).Record()) {
			w.fail("%s is ended after %d bytes of an alert", e.name, e.ledger.alert)
		}
	case !from.ledger.ended:
		w.fail("%s is ended, and %s is not", e.name, from.name)
	case at != from.taken:
		w.fail("%s is ended %d bytes too early", e.name, from.taken-at)
	}
}

func (w *world) closes(e *end, reset bool) {
	e.ledger.closed, e.ledger.reset = true, reset
	lingers := e.ledger.alert > 0 && !w.cut && !e.ledger.broken() && !e.ledger.ended
	if lingers && e.ledger.alert == len(hello.Alert(0).Record()) && e.ledger.shutAt == 0 {
		w.fail("%s is closed as soon as it was sent the alert", e.name)
	}
	if lingers && w.now < e.ledger.shutAt+int64(engine.LingerTime) && e.taken < engine.LingerBytes {
		w.fail("%s is closed before it had time to read the alert", e.name)
	}
}
