//go:build linux

package loop

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// choices decides what happens: a number from 0 to below n. 0 is the most
// harmless, so that a script that has ended leads to an end.
type choices interface{ below(n int) int }

// world is a loop over a simulated kernel, with all that is around it: clients,
// endpoints, the network between them, and the time.
type world struct {
	*simulated
	loop   *loop
	cfg    engine.Config
	shared *shared
	events [maxEvents]event
	now    int64

	table  *table.Table
	sets   []*table.Set
	routes []*table.Route

	listeners []*simListener
	clients   []*remote
	remotes   []*remote
	toCome    int
	scale     int

	// What the turn may do, and what was asked.
	eventsNow, startCalls, startGained int
	cut, settling, sentAway            bool
	busy                               bool
	idleTurns                          int
	records                            int
	accepts                            int
	// planted breaks something after each turn; nil: nothing.
	planted func(*world)
}

// begin is when a world begins, in Unix nanoseconds.
const begin = int64(1_800_000_000) * int64(time.Second)

// parts are pieces of a loop that are costly to make, for worlds that come one
// after another.
type parts struct {
	buffer *block
	blocks []*block
}

func newWorld(c choices, kernelOf func(*simulated) kernel) *world {
	w := &world{simulated: &simulated{choices: c}, now: begin}
	w.between, w.dialed, w.audit = w.happen, w.dialedBy, w
	w.scale = []int{0, 0, 0, 0, 0, 1, 1, 2}[w.below(8)]
	w.toCome = 1 + w.below(5)
	w.makeTable()
	cfg := engine.Config{
		Table:          func() *table.Table { return w.table },
		Record:         w.record,
		HelloTimeout:   time.Duration(1+w.below(5)) * time.Second,
		ConnectTimeout: time.Duration(1+w.below(3)) * 500 * time.Millisecond,
		ProxyNetworks:  proxyNetworks[:w.below(2)],
		Random:         func() uint64 { return uint64(w.below(1<<20)) << 20 },
	}
	switch w.below(8) {
	case 7:
		cfg.MaxConnections = 2
	case 6:
		cfg.MaxHalfOpen = 1
	case 5:
		cfg.HelloFree, cfg.HelloShared = 64, 150
	}
	var err error
	if w.cfg, err = cfg.WithDefaults(); err != nil {
		panic(err)
	}
	w.shared = &shared{idle: make(chan struct{}, 1)}
	w.shared.own.Store(engine.OwnOf(nil))
	w.loop = newLoop(&w.cfg, w.shared, kernelOf(w.simulated))
	w.shared.loops = []*loop{w.loop}
	for range 1 + w.below(2) {
		w.addListener()
	}
	return w
}

var proxyNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func (w *world) addListener() {
	l := &simListener{}
	l.fd = w.open(l)
	w.listeners = append(w.listeners, l)
	w.loop.ask(mail{what: listen, fd: l.fd})
}

// run lets the world go on until it has come to its end, and panics with a
// violation when something is wrong.
func (w *world) run() {
	for range 8 + w.below(64) {
		for range w.below(12) {
			w.act()
		}
		w.request()
		w.turn()
	}
	w.settle()
}

// act is something that happens around the gateway.
func (w *world) act() {
	if w.toCome > 0 && (len(w.remotes) == 0 || w.below(8) == 7) {
		w.toCome--
		w.newClient()
		return
	}
	if len(w.remotes) > 0 {
		w.remotes[w.below(len(w.remotes))].act()
	}
}

// happen is what happens while the gateway is at work; each of its calls comes
// by here.
func (w *world) happen() {
	if spent := w.calls - w.startCalls - 4*(w.gained-w.startGained); spent > 100+20*(w.eventsNow+len(w.clients)) {
		w.fail("the turn does not end: %d calls that came to nothing", spent)
	}
	if !w.busy && !w.settling && w.rarely(16) {
		w.busy = true
		w.act()
		w.busy = false
	}
}

// request is what other goroutines ask of the loop, and what comes with the table.
func (w *world) request() {
	switch w.below(128) {
	case 127:
		w.note("mail: cut all")
		w.cut = true
		w.loop.ask(mail{what: cutAll})
	case 126, 125:
		w.sentAway = true
		w.loop.ask(mail{what: sendAway})
	case 124:
		if len(w.listeners) > 1 {
			l := w.listeners[0]
			w.listeners = w.listeners[1:]
			w.note("mail: unlisten %d", l.fd)
			w.loop.ask(mail{what: unlisten, fd: l.fd})
			w.turn()
			if l.watched {
				w.fail("descriptor %d is still watched", l.fd)
			}
			w.files[l.fd] = nil
			for _, e := range l.queue {
				e.abort()
			}
		}
	case 123:
		w.addListener()
	case 122, 121, 120:
		w.changeTable()
	}
}

// turn waits and takes a turn.
func (w *world) turn() {
	patience := w.loop.patience()
	if patience != 0 {
		w.checkNothingLost()
	}
	n := w.wait(w.events[:], patience)
	switch {
	case n == 0 && patience > 0 && (w.settling || w.below(4) == 3):
		w.now += int64(patience) + int64(w.below(2_000_000))
	case n == 0 && patience > 0:
		w.now += int64(w.below(int(patience)))
	default:
		w.now += int64(w.below(100_000))
	}
	w.eventsNow, w.startCalls, w.startGained = n+len(w.loop.again), w.calls, w.gained
	w.note("-- turn at %s, %d events", time.Duration(w.now-begin), n)
	w.loop.turn(time.Unix(0, w.now), w.events[:n])
	if w.planted != nil {
		w.planted(w)
	}
	if w.calls == w.startCalls && patience == 0 {
		w.idleTurns++
	} else {
		w.idleTurns = 0
	}
	if w.idleTurns > 3 {
		w.fail("the loop spins: turn after turn has nothing to do")
	}
	w.checkTurn()
	w.cut = w.cut && w.loop.slots.inUse > 0
}

// settle has all come to an end, and checks that it does.
func (w *world) settle() {
	w.settling = true
	for turns := 0; w.toCome > 0 || w.loop.slots.inUse > 0 || w.queued(); turns++ {
		if turns > 20_000 {
			w.fail("it does not come to an end: %s", w.describe())
		}
		if w.toCome > 0 {
			w.toCome--
			w.newClient()
		}
		for _, r := range w.remotes {
			r.settle()
		}
		w.turn()
	}
	w.turn()
	w.loop.ask(mail{what: stop})
	w.turn()
	w.loop.freePipes()
	for _, r := range w.remotes {
		r.settle()
		for r.ours.pending() || r.end.pending() || r.read() {
			r.ours.bring()
			r.end.bring()
		}
		r.read()
	}
	w.checkEnd()
}

func (w *world) queued() bool {
	for _, l := range w.listeners {
		if len(l.queue) > 0 {
			return true
		}
	}
	return false
}

// dialedBy makes the endpoint that a connection leads to.
func (w *world) dialedBy(e *end, address netip.AddrPort) syscall.Errno {
	answer := w.below(16)
	if answer == 15 {
		return syscall.ECONNREFUSED
	}
	if answer == 14 {
		return syscall.ENETUNREACH
	}
	r := w.newRemote(e, &stream{}, false)
	e.ledger.address, e.ledger.since = address, w.now
	r.end.connecting, e.connecting = true, true
	switch {
	case answer == 13:
		r.silent = true
	case answer == 12:
		r.refuses = true
	case answer >= 10:
		r.answersLater = true
	default:
		r.answer()
	}
	return 0
}
