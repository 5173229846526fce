package wan

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ErrForbidden indicates that this process may make no network namespaces, or no
// devices in them.
var ErrForbidden = errors.New("wan: network namespaces with TUN devices need the rights of root")

// Options are what a link is like. The zero of each field is stated.
type Options struct {
	// Delay is how long a packet is under way, in one direction: half a round
	// trip. Zero: no longer than carrying it takes.
	Delay time.Duration
	// Queue is how many packets may be under way in each direction. Zero: 8192,
	// which is 12 MB.
	Queue int
}

const defaultQueue = 8192

// The addresses of the two sides, from the network that is set aside for
// measuring networks (RFC 2544).
var (
	leftAddress  = netip.AddrFrom4([4]byte{198, 18, 0, 1})
	rightAddress = netip.AddrFrom4([4]byte{198, 18, 0, 2})
)

// Link is two sides and what is between them. It is made by [Open].
type Link struct {
	// Left and Right are the sides.
	Left, Right *Side

	devices [2]*os.File
	lines   [2]*line
	silent  atomic.Bool
	work    sync.WaitGroup
}

// Stats count packets, in both directions together.
type Stats struct {
	// Carried arrived; Dropped found too many under way, or a silent link.
	Carried, Dropped uint64
}

// Open makes a link. Whoever made it closes it. The error is [ErrForbidden] where
// this process lacks the rights.
func Open(o Options) (*Link, error) {
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	l := &Link{}
	err := l.open(o)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("wan: %w", err)
	}
	return l, nil
}

func (l *Link) open(o Options) error {
	for i, side := range []struct {
		place   **Side
		address netip.Addr
	}{{&l.Left, leftAddress}, {&l.Right, rightAddress}} {
		made, err := newSide(side.address)
		if err != nil {
			return err
		}
		*side.place = made
		if l.devices[i], err = made.device(); err != nil {
			return err
		}
	}
	for i := range l.lines {
		l.lines[i] = newLine(l.devices[i], l.devices[1-i], o, &l.silent)
		l.work.Go(l.lines[i].take)
		l.work.Go(l.lines[i].give)
	}
	return nil
}

// Silence makes the link swallow every packet, also those under way, or carry
// them again: to either side the other is gone without a word.
func (l *Link) Silence(silent bool) { l.silent.Store(silent) }

// Stats returns what was counted so far.
func (l *Link) Stats() Stats {
	var s Stats
	for _, line := range l.lines {
		s.Carried += line.carried.Load()
		s.Dropped += line.dropped.Load()
	}
	return s
}

// Close ends the link. What was started in its sides should have ended before;
// connections between them get no answer any more.
func (l *Link) Close() {
	for _, device := range l.devices {
		if device != nil {
			_ = device.Close()
		}
	}
	l.work.Wait()
	for _, side := range []*Side{l.Left, l.Right} {
		if side != nil {
			side.close()
		}
	}
}
