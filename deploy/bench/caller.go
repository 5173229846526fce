package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// caller makes calls of one shape, on one thread.
type caller struct {
	shape
	to     unix.SockaddrInet4
	poller *poller
	// timer is the metronome, once it ticks; else -1.
	timer      int
	begin, end time.Time
	ticks      int

	calls []call
	// free are the calls that may begin, and due when those should have that wait
	// for a free one.
	free []int
	due  []time.Time
	busy int

	took    []time.Duration
	failed  int
	failure error
	looked  time.Time
	buffer  [4096]byte
}

// call is one connection, or the present request on it.
type call struct {
	descriptor int
	phase      phase
	// begin is when the call should have begun, opened when it has.
	begin, opened time.Time
	heard         int
}

// timerKey is the metronome's key in the poller; calls have their number.
const timerKey = -1

var request = append([]byte{requestMark}, bytes.Repeat([]byte{'.'}, requestLength-1)...)

// errUnanswered says that a call took longer than the patience.
var errUnanswered = fmt.Errorf("no answer in %s", patience)

func newCaller(address string, s shape) (*caller, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	c := &caller{shape: s, timer: -1, to: unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, calls: make([]call, s.connections)}
	for i := range c.calls {
		c.free = append(c.free, i)
	}
	c.poller, err = newPoller()
	return c, err
}

func (c *caller) close() {
	for i := range c.calls {
		c.hangUp(i)
	}
	if c.timer >= 0 {
		_ = unix.Close(c.timer)
	}
	c.poller.close()
}

func (c *caller) hangUp(i int) {
	if c.calls[i].phase != closed {
		_ = unix.Close(c.calls[i].descriptor)
		c.calls[i].phase = closed
	}
}

// prepare opens what stays open.
func (c *caller) prepare(ctx context.Context) error {
	if !c.requests {
		return nil
	}
	for range c.calls {
		c.open(c.take(), time.Now())
	}
	return errors.Join(c.until(ctx, func() bool { return c.busy == 0 }), c.failure)
}

// run makes calls for a while, on a thread of its own.
func (c *caller) run(ctx context.Context, d time.Duration) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := errors.Join(c.prepare(ctx), ctx.Err()); err != nil {
		return err
	}
	c.begin = time.Now()
	c.end = c.begin.Add(d)
	if err := c.wind(); err != nil {
		return err
	}
	return c.until(ctx, func() bool {
		return c.busy == 0 && len(c.due) == 0 && (c.failed >= mostFailures || !time.Now().Before(c.end))
	})
}

// wind has the metronome tick, where there is a rate.
func (c *caller) wind() (err error) {
	if c.rate == 0 {
		return nil
	}
	if c.timer, err = metronome(c.rate); err != nil {
		return err
	}
	return c.poller.add(c.timer, unix.EPOLLIN, timerKey)
}

// until begins what is due and goes on with what has begun, until it is over.
func (c *caller) until(ctx context.Context, over func() bool) error {
	for {
		c.dispatch()
		if over() || ctx.Err() != nil {
			return ctx.Err()
		}
		events, err := c.poller.wait(50 * time.Millisecond)
		if err != nil {
			return err
		}
		for i := range events {
			if key := int(events[i].Fd); key != timerKey {
				c.advance(key)
			} else if err := c.tick(); err != nil {
				return err
			}
		}
		c.losePatience()
	}
}

// take takes the call that was free longest.
func (c *caller) take() int {
	i := c.free[0]
	c.free = c.free[1:]
	return i
}

// tick notes the calls that are due since the last one.
func (c *caller) tick() error {
	if _, err := unix.Read(c.timer, c.buffer[:8]); err != nil {
		return fmt.Errorf("metronome: %w", err)
	}
	for range binary.NativeEndian.Uint64(c.buffer[:8]) {
		c.ticks++
		if at := c.begin.Add(time.Duration(c.ticks) * time.Second / time.Duration(c.rate)); at.Before(c.end) {
			c.due = append(c.due, at)
		}
	}
	return nil
}

// dispatch begins the calls that are due and have one that is free.
func (c *caller) dispatch() {
	if c.failed >= mostFailures {
		c.due = nil
		return
	}
	if c.rate == 0 {
		for n := len(c.free); n > 0 && time.Now().Before(c.end); n-- {
			c.start(c.take(), time.Now())
		}
		return
	}
	for len(c.due) > 0 && len(c.free) > 0 {
		c.start(c.take(), c.due[0])
		c.due = c.due[1:]
	}
}

func (c *caller) start(i int, due time.Time) {
	if c.requests && c.calls[i].phase != closed {
		c.ask(i, due)
	} else {
		c.open(i, due)
	}
}

// open connects. The kernel mostly has a connection on loopback before connect is
// back, which says all the same that it has not; so the hello is tried at once.
func (c *caller) open(i int, due time.Time) {
	a := &c.calls[i]
	c.busy++
	descriptor, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	*a = call{descriptor: descriptor, begin: due, opened: time.Now()}
	if err != nil {
		c.fail(i, err)
		return
	}
	a.phase = connecting
	if err := resetOnClose(descriptor); err != nil {
		c.fail(i, err)
		return
	}
	if err := unix.Connect(descriptor, &c.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.fail(i, err)
		return
	}
	events := uint32(unix.EPOLLOUT)
	switch _, err := unix.Write(descriptor, hello); {
	case err == nil:
		events, a.phase = unix.EPOLLIN, greeting
	case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOTCONN):
		c.fail(i, err)
		return
	}
	if err := c.poller.add(descriptor, events, i); err != nil {
		c.fail(i, err)
	}
}

// ask sends a request.
func (c *caller) ask(i int, due time.Time) {
	a := &c.calls[i]
	c.busy++
	a.phase, a.begin, a.opened, a.heard = asking, due, time.Now(), 0
	if _, err := unix.Write(a.descriptor, request); err != nil {
		c.fail(i, err)
	}
}

// advance goes on with a call to which something has happened.
func (c *caller) advance(i int) {
	a := &c.calls[i]
	if a.phase == connecting {
		_, err := unix.Write(a.descriptor, hello)
		if err == nil {
			a.phase = greeting
			err = c.poller.change(a.descriptor, unix.EPOLLIN, i)
		}
		if err != nil {
			c.fail(i, err)
		}
		return
	}
	n, err := unix.Read(a.descriptor, c.buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return
	case err == nil && n == 0:
		err = io.ErrUnexpectedEOF
	case err == nil && a.phase == greeted:
		err = errors.New("an answer to no request")
	}
	if err != nil {
		c.fail(i, err)
		return
	}
	c.listen(i, n)
}

// listen takes n bytes of an answer.
func (c *caller) listen(i, n int) {
	a := &c.calls[i]
	a.heard += n
	switch {
	case a.phase == greeting && a.heard >= len(answer):
		if c.requests {
			a.phase = greeted
		} else {
			c.took = append(c.took, time.Since(a.begin))
			c.hangUp(i)
		}
	case a.phase == asking && a.heard >= requestLength:
		c.took = append(c.took, time.Since(a.begin))
		a.phase = greeted
	default:
		return
	}
	c.busy--
	c.free = append(c.free, i)
}

// fail counts a call that got no answer. Its connection is opened anew.
func (c *caller) fail(i int, err error) {
	if c.calls[i].phase != greeted {
		c.busy--
		c.free = append(c.free, i)
	}
	c.failed, c.failure = c.failed+1, err
	c.hangUp(i)
}

// losePatience fails calls that have waited too long; it looks now and then.
func (c *caller) losePatience() {
	now := time.Now()
	if now.Sub(c.looked) < time.Second {
		return
	}
	c.looked = now
	for i := range c.calls {
		a := &c.calls[i]
		if a.phase != closed && a.phase != greeted && now.Sub(a.opened) > patience {
			c.fail(i, errUnanswered)
		}
	}
}
