//go:build linux

package loop

import (
	"net"
	"os"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// opening is what a connection needs until it is joined. Most are joined in the
// turn that accepts them, with the loop's own; one that has to wait takes it along.
type opening struct {
	intake engine.Intake
	choice engine.Choice
	// admitted: it has its place among the connections of the route.
	admitted bool
}

// hear reads the hello as far as it has come.
func (l *loop) hear(c *connection, o *opening) {
	in := &c.sockets[client]
	for in.readable {
		n, err := l.kernel.read(int(in.fd), l.buffer[:])
		switch {
		case err == syscall.EAGAIN:
			in.readable = false
			continue
		case err != 0:
			l.refuse(c, o, o.intake.Left(os.NewSyscallError("read", err).Error()))
			return
		case n == 0:
			l.refuse(c, o, o.intake.Left(""))
			return
		}
		in.readable = n == blockSize || in.hung
		forEndpoint, whole, refused := o.intake.Take(l.buffer[:n])
		if refused == nil && !whole {
			refused = o.intake.Keep(forEndpoint)
		}
		if refused != nil {
			l.refuse(c, o, refused)
			return
		}
		if whole {
			l.choose(c, o, forEndpoint)
			return
		}
	}
	l.awaitHello(c)
}

// awaitHello has a connection wait for the rest of its hello.
func (l *loop) awaitHello(c *connection) {
	if c.opening != nil {
		return
	}
	c.opening, l.scratch = l.scratch, l.takeOpening()
	l.waiting.push(c)
	l.tellOldest()
	l.counts.HalfOpen.Add(1)
	halfOpen := l.shared.halfOpen.Add(1)
	l.setDeadline(c, l.cfg.HelloTimeout)
	if !l.watch(c, client) {
		l.refuse(c, c.opening, &engine.Refusal{Reason: table.ReasonClientLeft, Detail: "it cannot be watched"})
		return
	}
	if halfOpen > int64(l.cfg.MaxHalfOpen) {
		l.shared.sendAwayOldest(l)
	}
}

// leaveWaiting ends the wait for the hello, if there was one.
func (l *loop) leaveWaiting(c *connection) {
	if c.state != waiting || !c.listed {
		return
	}
	l.waiting.remove(c)
	l.tellOldest()
	l.counts.HalfOpen.Add(-1)
	l.shared.halfOpen.Add(-1)
	c.deadline = 0
}

// sendAwayOldest ends the connection of this loop that has waited longest.
func (l *loop) sendAwayOldest() {
	if c := l.waiting.first; c != nil {
		l.refuse(c, c.opening, &engine.Refusal{Reason: table.ReasonHalfOpenLimit, Detail: engine.ErrTooManyWait.Error()})
	}
}

// makeRoom sends one away if too many wait; another loop's, if this one's have left
// since it was asked.
func (l *loop) makeRoom() {
	switch {
	case l.shared.halfOpen.Load() <= int64(l.cfg.MaxHalfOpen):
	case l.waiting.first != nil:
		l.sendAwayOldest()
	default:
		l.shared.sendAwayOldest(l)
	}
}

// tellOldest tells the other loops how long the first has waited.
func (l *loop) tellOldest() {
	oldest := int64(0)
	if l.waiting.first != nil {
		oldest = l.waiting.first.start
	}
	l.oldest.Store(oldest)
}

// choose looks the name up, and begins to try endpoints. forEndpoint is the part
// of the hello that was not kept, and of what came behind it.
func (l *loop) choose(c *connection, o *opening, forEndpoint []byte) {
	l.leaveWaiting(c)
	c.state = connecting
	t := l.cfg.Table()
	c.table = t
	l.noteNames(c, &o.intake)
	if refused := l.enterNetwork(c); refused != nil {
		l.refuse(c, o, refused)
		return
	}
	route := t.Lookup(o.intake.AppendFolded(l.folded[:0]))
	if route == nil {
		l.refuse(c, o, &engine.Refusal{Reason: table.ReasonUnknownName, Alert: hello.UnrecognizedName})
		return
	}
	c.route = route
	refused := l.cfg.Admit(route, t.Settings)
	o.admitted = true
	if refused != nil {
		l.refuse(c, o, refused)
		return
	}
	o.choice = l.cfg.Choose(route, t.Settings, l.time)
	l.try(c, o, forEndpoint)
}

// noteNames takes what records say of the client.
func (l *loop) noteNames(c *connection, in *engine.Intake) {
	if source := in.Source(); source.IsValid() {
		c.source = source
	}
	if l.cfg.Record != nil {
		c.serverName = in.ServerName()
	}
}

// try dials endpoints until one takes the hello, or one has yet to answer.
func (l *loop) try(c *connection, o *opening, forEndpoint []byte) {
	for e := o.choice.Next(l.time); e != nil; e = o.choice.Next(l.time) {
		c.endpoint = e
		if err := l.shared.own.Load().Check(e.Address); err != nil {
			o.choice.Failed(e, l.time, err, &l.counts)
			continue
		}
		if l.cfg.OpenAhead > 0 {
			var greeted bool
			if forEndpoint, greeted = l.greetAhead(c, o, forEndpoint); greeted {
				return
			}
		}
		if l.dial(c, o, forEndpoint) {
			return
		}
	}
	c.endpoint = nil
	l.refuse(c, o, o.choice.Refusal())
}

// dial connects to the connection's endpoint, and greets it or waits for it; it
// is false when the endpoint has failed.
func (l *loop) dial(c *connection, o *opening, forEndpoint []byte) bool {
	fd, err := l.kernel.dial(c.endpoint.Address, true)
	if err == syscall.EMFILE {
		l.shed()
		l.kernel.flush()
		fd, err = l.kernel.dial(c.endpoint.Address, true)
	}
	if err != 0 {
		l.dialFailed(o, c.endpoint, os.NewSyscallError("connect", err))
		return false
	}
	c.sockets[upstream] = socket{fd: int32(fd), writable: true, isThere: true}
	switch err := l.greet(c, o, forEndpoint); err {
	case 0:
	case syscall.EAGAIN:
		l.awaitEndpoint(c, o, forEndpoint)
	default:
		l.closeSocket(c, upstream)
		l.dialFailed(o, c.endpoint, os.NewSyscallError("connect", err))
		return false
	}
	return true
}

// dialFailed says that an endpoint did not answer, in net's words.
func (l *loop) dialFailed(o *opening, e *table.Endpoint, why error) {
	o.choice.Failed(e, l.time, dialError(e, why), &l.counts)
}

func dialError(e *table.Endpoint, why error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(e.Address), Err: why}
}

// greet writes the hello to the endpoint: an endpoint that takes a byte of it is
// connected. EAGAIN means that it is not known yet.
func (l *loop) greet(c *connection, o *opening, forEndpoint []byte) syscall.Errno {
	if err := l.writeHello(c, o.intake.Kept(), forEndpoint); err != 0 {
		return err
	}
	l.join(c, o)
	return 0
}

// writeHello writes once of the hello, of which a part may have been kept, and has
// the rest of it wait.
func (l *loop) writeHello(c *connection, kept net.Buffers, forEndpoint []byte) syscall.Errno {
	first := forEndpoint
	if len(kept) > 0 {
		first = kept[0]
	}
	n, err := l.kernel.write(int(c.sockets[upstream].fd), first)
	if err != 0 {
		return err
	}
	f := &c.flows[client]
	f.moved, f.pending = uint64(n), first[n:]
	if len(kept) > 0 {
		f.rest = kept[1:]
		if len(forEndpoint) > 0 {
			f.rest = append(f.rest, append([]byte(nil), forEndpoint...))
		}
	}
	switch {
	case len(f.pending) > 0:
		l.hold(f)
	case len(f.rest) > 0:
		f.pending, f.rest = f.rest[0], f.rest[1:]
	}
	return 0
}

// awaitEndpoint waits for an endpoint's answer, with the hello.
func (l *loop) awaitEndpoint(c *connection, o *opening, forEndpoint []byte) {
	if len(forEndpoint) > 0 {
		if refused := o.intake.Keep(forEndpoint); refused != nil {
			l.refuse(c, o, refused)
			return
		}
	}
	if c.opening == nil {
		c.opening, l.scratch = l.scratch, l.takeOpening()
	}
	c.sockets[upstream].watchedWrites = true
	if !l.watch(c, upstream) {
		l.refuse(c, o, &engine.Refusal{Reason: table.ReasonConnectFailed, Detail: "the endpoint cannot be watched", Alert: hello.InternalError})
		return
	}
	l.setDeadline(c, o.choice.Budget())
}

// answered goes on with an endpoint that has answered, or failed.
func (l *loop) answered(c *connection) {
	o := c.opening
	err := l.kernel.outcome(int(c.sockets[upstream].fd))
	if err == 0 {
		err = l.greet(c, o, nil)
	}
	switch err {
	case 0, syscall.EAGAIN:
	default:
		l.nextEndpoint(c, os.NewSyscallError("connect", err))
	}
}

// nextEndpoint gives up an endpoint that was waited for.
func (l *loop) nextEndpoint(c *connection, why error) {
	o := c.opening
	c.deadline = 0
	l.closeSocket(c, upstream)
	l.dialFailed(o, c.endpoint, why)
	l.try(c, o, nil)
}

// join makes a connection one of the endpoint's: from now on bytes are moved.
func (l *loop) join(c *connection, o *opening) {
	o.choice.Connected(c.endpoint)
	c.attempts = uint8(o.choice.Attempts())
	l.settle(c, o)
	l.begin(c)
}

// settle ends the opening of a connection: it is its endpoint's, come what may.
func (l *loop) settle(c *connection, o *opening) {
	o.intake.Release()
	if c.opening != nil {
		l.giveOpening(c.opening)
		c.opening = nil
	}
	c.route.Counters.Connections.Add(1)
	c.endpoint.Counters.Connections.Add(1)
}

// begin begins to move the bytes of a connection.
func (l *loop) begin(c *connection) {
	c.state, c.deadline = joined, 0
	c.sockets[upstream].writable = true
	c.route.Counters.Open.Add(1)
	c.endpoint.Counters.Open.Add(1)
	c.idleSince = l.now
	l.age(c)
	l.watchBoth(c)
}

// watchBoth has the kernel tell of both sockets, and moves what there is.
func (l *loop) watchBoth(c *connection) {
	if !l.watch(c, client) || !l.watch(c, upstream) {
		l.broke(c, upstream, "epoll_ctl", syscall.ENOMEM)
		return
	}
	l.pump(c)
}

// watch has the kernel tell of a side's socket, if it does not yet.
func (l *loop) watch(c *connection, s side) bool {
	k := &c.sockets[s]
	if !k.watched {
		k.watched = l.kernel.watch(int(k.fd), tokenOf(c.generation, c.slot, s), k.watchedWrites) == 0
	}
	return k.watched
}

func (l *loop) setDeadline(c *connection, after time.Duration) {
	c.deadline = l.now + int64(after)
	l.deadlines.add(deadline{c.deadline, c.slot, c.generation})
}

func (l *loop) takeOpening() *opening {
	if n := len(l.openings); n > 0 {
		o := l.openings[n-1]
		l.openings = l.openings[:n-1]
		return o
	}
	return &opening{}
}

func (l *loop) giveOpening(o *opening) {
	*o = opening{}
	if len(l.openings) < keptOpenings {
		l.openings = append(l.openings, o)
	}
}

// keptOpenings is how many unused openings a loop keeps.
const keptOpenings = 64
