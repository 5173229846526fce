package wan

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// mtu is that of most networks. longest is what one read of a device can give.
const (
	mtu     = 1500
	longest = 2048
)

// line carries packets in one direction. It is two goroutines with a queue
// between them: take reads what is sent, give hands it on when its time is over.
// All are late by the same time, so the first in the queue is always the next.
type line struct {
	from, to *os.File
	delay    time.Duration
	queue    chan packet
	// ended is closed when there is no link any more.
	ended  chan struct{}
	silent *atomic.Bool
	// buffers are those that carry nothing at present.
	buffers          sync.Pool
	carried, dropped atomic.Uint64
}

// packet is one under way.
type packet struct {
	buffer *[longest]byte
	length int
	due    time.Time
}

func newLine(from, to *os.File, o Options, silent *atomic.Bool) *line {
	return &line{
		from: from, to: to, delay: o.Delay, silent: silent,
		queue:   make(chan packet, o.Queue),
		ended:   make(chan struct{}),
		buffers: sync.Pool{New: func() any { return new([longest]byte) }},
	}
}

// take reads packets until the device is closed, which ends the line.
func (l *line) take() {
	defer close(l.ended)
	for {
		buffer := l.buffers.Get().(*[longest]byte)
		n, err := l.from.Read(buffer[:])
		if err != nil {
			return
		}
		select {
		case l.queue <- packet{buffer, n, time.Now().Add(l.delay)}:
		default:
			l.dropped.Add(1)
			l.buffers.Put(buffer)
		}
	}
}

// give hands packets on until the line ends; what is under way then is lost.
func (l *line) give() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case p := <-l.queue:
			if wait := time.Until(p.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-l.ended:
					return
				}
			}
			l.deliver(p)
			l.buffers.Put(p.buffer)
		case <-l.ended:
			return
		}
	}
}

// deliver writes one packet. A device that takes none is closed, or has no room,
// which is the loss of a packet.
func (l *line) deliver(p packet) {
	if !l.silent.Load() {
		if _, err := l.to.Write(p.buffer[:p.length]); err == nil {
			l.carried.Add(1)
			return
		}
	}
	l.dropped.Add(1)
}
