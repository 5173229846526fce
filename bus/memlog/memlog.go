// Package memlog is a [bus.Log] in memory: for tests, for the simulation, and
// for commands that run the machines on plain files.
//
// The promises are those of package bus, held to by the same conformance suite
// as JetStream. It starts no goroutine, and all waiting is on channels and
// timers of the caller's goroutine, so it works inside testing/synctest.
//
// It can be as unkind as a network: faults come from a seed ([Faults]) or by
// hand ([Log.Delete], [Log.Hold], [Log.LoseAnswer], [Log.ResetConsumers],
// [Client.Cut], [Client.Delay], [Log.Link]). A seeded fault depends only on the
// seed, the client, and how often the client did that very thing, so one client
// does not disturb another's faults.
package memlog

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
)

// Options of a [Log]. The zero value is a kind, reliable log.
type Options struct {
	// Domain is the name of the log's own domain. Empty: "local".
	Domain string
	// Seed decides the faults and the incarnations.
	Seed uint64
	// Faults of all clients.
	Faults Faults
}

// Log is the log of one domain, and a client of it that has no faults of its
// own.
type Log struct {
	*Client
}

var (
	_ bus.Log = (*Log)(nil)
	_ bus.Log = (*Client)(nil)
)

// world is all domains that can reach each other. One mutex guards it.
type world struct {
	mu      sync.Mutex
	seed    uint64
	faults  Faults
	domains map[string]*domain
	// cut holds the pairs of domains whose link is down.
	cut map[[2]string]bool
	// made counts the streams made, for their incarnations.
	made uint64
}

// domain is the streams of one datacenter.
type domain struct {
	world     *world
	name      string
	streams   map[string]*stream
	listeners map[string]map[*listener]bool
	// holds are for streams that are yet to be made.
	holds map[string]uint64
}

// New returns an empty log.
func New(options Options) *Log {
	w := &world{
		seed: options.Seed, faults: options.Faults,
		domains: make(map[string]*domain), cut: make(map[[2]string]bool),
	}
	return w.log(cmp.Or(options.Domain, "local"))
}

func (w *world) log(name string) *Log {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.domains[name]
	if !ok {
		d = &domain{
			world: w, name: name, streams: make(map[string]*stream),
			listeners: make(map[string]map[*listener]bool), holds: make(map[string]uint64),
		}
		w.domains[name] = d
	}
	return &Log{newClient(d, "")}
}

// Domain returns the log of another domain of the same world, which mirrors can
// copy from.
func (l *Log) Domain(name string) *Log { return l.domain.world.log(name) }

// Connect returns a connection of its own, as another process has it. The name
// seeds its faults.
func (l *Log) Connect(name string) *Client { return newClient(l.domain, name) }

// Link brings the link to another domain up or down. Mirrors catch up at once
// when it comes up.
func (l *Log) Link(other string, up bool) {
	w := l.domain.world
	w.mu.Lock()
	defer w.mu.Unlock()
	pair := [2]string{min(l.domain.name, other), max(l.domain.name, other)}
	w.cut[pair] = !up
	w.copyAll()
}

// Delete removes a stream, as an operator could.
func (l *Log) Delete(name string) {
	w := l.domain.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := l.domain.streams[name]; s != nil {
		delete(l.domain.streams, name)
		s.wake()
	}
}

// Hold lets followers of the stream see nothing beyond a sequence, and a mirror
// copy nothing beyond it, until it is released with sequence 0. So half a
// transaction is shown.
func (l *Log) Hold(name string, sequence uint64) {
	w := l.domain.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := l.domain.streams[name]; s != nil {
		s.hold = sequence
		w.copyAll()
		s.wake()
	}
}

// HoldNext is [Log.Hold] for a stream that is yet to be made.
func (l *Log) HoldNext(name string, sequence uint64) {
	l.domain.world.mu.Lock()
	defer l.domain.world.mu.Unlock()
	l.domain.holds[name] = sequence
}

// LoseAnswer lets the next append to the stream be stored and its answer be
// lost.
func (l *Log) LoseAnswer(name string) { l.onStream(name, func(s *stream) { s.loseAnswer = true }) }

// LoseRequest lets the next append to the stream be lost.
func (l *Log) LoseRequest(name string) { l.onStream(name, func(s *stream) { s.loseRequest = true }) }

// ResetConsumers takes all consumers from the stream's followers.
func (l *Log) ResetConsumers(name string) { l.onStream(name, func(s *stream) { s.resets++ }) }

// Remove deletes one message out of a stream, which leaves a hole.
func (l *Log) Remove(name string, sequence uint64) {
	l.onStream(name, func(s *stream) { s.remove(sequence) })
}

func (l *Log) onStream(name string, change func(*stream)) {
	l.domain.world.mu.Lock()
	defer l.domain.world.mu.Unlock()
	s := l.domain.streams[name]
	if s == nil {
		panic(fmt.Sprintf("memlog: no stream %s in domain %s", name, l.domain.name))
	}
	change(s)
	s.wake()
}

// unanswered is how long a client waits for an answer that does not come.
const unanswered = time.Second
