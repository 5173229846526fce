//go:build linux

package loop

import (
	"os"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// refuse ends a connection that is not joined: it sends the alert, if there is
// one, and lets the client read it.
func (l *loop) refuse(c *connection, o *opening, why *engine.Refusal) {
	l.leaveWaiting(c)
	l.noteNames(c, &o.intake)
	l.leaveRoute(c, o)
	c.attempts = uint8(o.choice.Attempts())
	c.refusal = why
	if c.sockets[upstream].isThere {
		l.closeSocket(c, upstream)
	}
	c.endpoint = nil
	alert := why.Alert.Record()
	if why.Alert == 0 || !l.write(c, alert[:]) {
		l.end(c, why.Reason, why.Detail)
		return
	}
	k := &c.sockets[client]
	l.kernel.shutdown(int(k.fd))
	// What it has said already is read in this turn; an event tells of more.
	c.state, k.readable = lingering, true
	if !l.watch(c, client) {
		l.end(c, why.Reason, why.Detail)
		return
	}
	l.setDeadline(c, engine.LingerTime)
	l.linger(c)
}

// write writes a few bytes to a client that was not sent anything yet.
func (l *loop) write(c *connection, b []byte) bool {
	n, err := l.kernel.write(int(c.sockets[client].fd), b)
	return err == 0 && n == len(b)
}

// leaveRoute gives back what the opening holds.
func (l *loop) leaveRoute(c *connection, o *opening) {
	o.intake.Release()
	if o.admitted {
		o.admitted = false
		engine.Leave(c.route)
	}
}

// linger reads what a refused client still says.
func (l *loop) linger(c *connection) {
	k, f := &c.sockets[client], &c.flows[client]
	for k.readable {
		n, err := l.kernel.read(int(k.fd), l.buffer[:])
		if err == syscall.EAGAIN {
			k.readable = false
			return
		}
		f.full += n
		if err != 0 || n == 0 || f.full >= engine.LingerBytes {
			l.end(c, c.refusal.Reason, c.refusal.Detail)
			return
		}
	}
}

// broke ends a joined connection of which a side has failed: the other side is
// reset, so that no one takes a broken stream for a whole one.
func (l *loop) broke(c *connection, s side, call string, err syscall.Errno) progress {
	if c.opening != nil && s == upstream && l.repeat(c, err) {
		return over
	}
	l.count(c)
	reason := table.ReasonClientReset
	if s == upstream {
		reason = table.ReasonEndpointReset
	}
	if err == syscall.ECONNRESET {
		// There is no one left to tell.
		l.closeSocket(c, s)
	}
	l.resetSockets(c)
	detail := ""
	if l.cfg.Record != nil {
		detail = os.NewSyscallError(call, err).Error()
	}
	l.end(c, reason, detail)
	return over
}

func (l *loop) resetSockets(c *connection) {
	for _, s := range [2]side{client, upstream} {
		if c.sockets[s].isThere {
			c.sockets[s].isThere = false
			l.kernel.reset(int(c.sockets[s].fd))
		}
	}
}

func (l *loop) closeSocket(c *connection, s side) {
	l.kernel.close(int(c.sockets[s].fd))
	c.sockets[s] = socket{}
}

// end closes what is still open of a connection, tells of it, and frees its slot.
func (l *loop) end(c *connection, reason table.Reason, detail string) {
	for _, s := range [2]side{client, upstream} {
		if c.sockets[s].isThere {
			l.closeSocket(c, s)
		}
	}
	for i := range c.flows {
		f := &c.flows[i]
		l.givePipe(f)
		l.giveBlock(f)
	}
	switch c.state {
	case waiting, free:
	case joined:
		if c.opening != nil {
			l.settle(c, c.opening)
			l.count(c)
		}
		l.aging.remove(c)
		c.route.Counters.Open.Add(-1)
		c.endpoint.Counters.Open.Add(-1)
		engine.Leave(c.route)
	case connecting, lingering, dialling, ready:
	}
	if c.opening != nil {
		c.opening.intake.Release()
		l.giveOpening(c.opening)
	}
	if c.big {
		l.big.Add(-1)
	}
	if c.counted {
		l.shared.networks.Leave(c.source.Addr())
	}
	l.counts.End(reason)
	l.record(c, reason, detail)
	l.slots.give(c)
	if l.resumeAt != 0 {
		l.resumeAccepting()
	}
	l.pipes.refused = false
	l.shared.ended()
}

// record tells of a connection that has ended.
func (l *loop) record(c *connection, reason table.Reason, detail string) {
	if l.cfg.Record == nil {
		return
	}
	t := c.table
	if t == nil {
		// It ended before a table was asked.
		t = l.cfg.Table()
	}
	r := &table.Record{
		Start: time.Unix(0, c.start), Duration: time.Duration(l.now - c.start),
		Client: c.source, Peer: c.peer, SNI: c.serverName, Attempts: int(c.attempts),
		BytesIn: c.flows[client].moved, BytesOut: c.flows[upstream].moved,
		Reason: reason, Detail: detail, Routes: t.Routes, Basis: t.Basis,
	}
	if c.route != nil {
		r.Route = c.route.Name
	}
	if c.endpoint != nil {
		r.Endpoint = c.endpoint.Name
	}
	if c.refusal != nil {
		r.Alert = uint8(c.refusal.Alert)
	}
	l.cfg.Record(r)
}

// cut ends every connection at the end of a drain.
func (l *loop) cut() {
	for _, chunk := range l.slots.chunks {
		for i := range chunk {
			if c := &chunk[i]; c.pool != nil {
				l.dropAhead(c)
			} else if c.state != free {
				l.cutOne(c)
			}
		}
	}
}

// cutOne ends a connection at the end of a drain.
func (l *loop) cutOne(c *connection) {
	reason, detail := table.ReasonDrained, ""
	switch c.state {
	case lingering:
		reason, detail = c.refusal.Reason, c.refusal.Detail
	case joined:
		detail = errDrained.Error()
		l.count(c)
	default:
		l.leaveWaiting(c)
		l.noteNames(c, &c.opening.intake)
		l.leaveRoute(c, c.opening)
		c.attempts, c.endpoint = uint8(c.opening.choice.Attempts()), nil
	}
	if c.state == joined {
		l.resetSockets(c)
	}
	l.end(c, reason, detail)
}
