//go:build linux

package loop

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// choices decides what happens: a number from 0 to below n. 0 is the most
// harmless, so that a script that has ended leads to an end.
type choices interface{ below(n int) int }

// world is loops over a simulated kernel, with all that is around them: clients,
// endpoints, the network between them, and the time.
type world struct {
	*simulated
	loops []*loop
	// held is how many blocks a loop believes to be held from the start.
	held int
	// share is how many bytes a flow may move in a turn.
	share, turnsTaken int
	cfg               engine.Config
	shared            *shared
	events            [maxEvents]event
	now               int64

	table  *table.Table
	sets   []*table.Set
	routes []*table.Route

	listeners []*simListener
	clients   []*remote
	remotes   []*remote
	toCome    int
	// crowded: many come, and one loop is much faster than the other.
	crowded bool
	scale   int

	// What the turn may do, and what was asked.
	eventsNow, startCalls, startGained int
	cut, settling                      bool
	busy                               bool
	idleTurns                          [2]int
	records                            int
	accepts                            int
	census                             census
	// planted breaks something after each turn; nil: nothing.
	planted func(*world, *loop)
}

// birth is when a world begins, in Unix nanoseconds.
const birth = int64(1_800_000_000) * int64(time.Second)

func newWorld(c choices, kernelOf func(*simPoller) kernel) *world {
	w := &world{simulated: &simulated{choices: c}, now: birth, census: newCensus()}
	w.between, w.dialed, w.audit = w.happen, w.dialedBy, w
	w.scale = []int{0, 0, 0, 0, 0, 1, 1, 2}[w.below(8)]
	w.toCome = 1 + w.below(5)
	w.scarce = w.below(8) == 7
	if w.below(24) == 23 {
		w.toCome, w.scale, w.crowded = 30, 0, true
	}
	w.makeTable()
	cfg := engine.Config{
		Table:          func() *table.Table { return w.table },
		Record:         w.record,
		HelloTimeout:   time.Duration(1+w.below(5)) * time.Second,
		ConnectTimeout: time.Duration(1+w.below(3)) * 500 * time.Millisecond,
		ProxyNetworks:  proxyNetworks[:w.below(2)],
		Random:         func() uint64 { return uint64(w.below(1<<20)) << 20 },
	}
	switch w.below(12) {
	case 11, 10:
		cfg.OpenAhead = 1 + w.below(3)
		w.toCome += w.below(10)
	case 9:
		cfg.MaxPerRoute = 1
	case 4:
		cfg.IdleTimeout = 4 * time.Second
	case 8:
		cfg.MaxPerNetwork = 1
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
	at, _ := own()
	w.shared.own.Store(at)
	w.share = turnBytes
	if w.below(3) == 2 {
		w.share = []int{100, 3 << 10, 200 << 10}[w.scale]
	}
	if w.below(8) == 7 {
		w.held = heldBlocks
	}
	loops := 1 + w.below(2)
	if w.scale == 2 || w.crowded {
		loops = 2
	}
	for range loops {
		l := newLoop(&w.cfg, w.shared, kernelOf(&simPoller{simulated: w.simulated}))
		l.share, l.held, l.slack = w.share, w.held, 4
		w.loops = append(w.loops, l)
	}
	w.shared.loops = w.loops
	for range 1 + w.below(2) {
		w.addListener()
	}
	return w
}

var proxyNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// own is where a gateway of the simulation listens: at an address that is an
// endpoint's too.
var own = sync.OnceValues(func() (*engine.Own, netip.AddrPort) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	listener, err := engine.Adopt(l)
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return engine.OwnOf([]*engine.Listener{listener}), listener.AddrPort()
})

func (w *world) addListener() {
	l := &simListener{watching: make(map[*simPoller]token)}
	l.fd = w.open(l)
	w.listeners = append(w.listeners, l)
	w.askAll(mail{what: listen, fd: l.fd})
}

// askAll asks all loops for something.
func (w *world) askAll(m mail) {
	for _, l := range w.loops {
		l.ask(m)
	}
}

// run lets the world go on until it has come to its end, and panics with a
// violation when something is wrong.
func (w *world) run() {
	for range 8 + w.below(64) {
		for range w.below(12) {
			w.act()
		}
		w.request()
		next := w.below(len(w.loops))
		if w.crowded && w.below(16) > 0 {
			next = 0
		}
		w.turn(next)
	}
	w.settle()
}

// act is something that happens around the gateway.
func (w *world) act() {
	if w.toCome > 0 && (len(w.remotes) == 0 || w.below(8) == 7 || w.crowded && w.below(2) == 1) {
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
		if w.below(4) == 3 {
			w.drain()
		}
	case 126, 125:
		w.loops[0].ask(mail{what: sendAway})
	case 124:
		if len(w.listeners) > 1 {
			w.unlisten()
		}
	case 123:
		if !w.cut {
			w.addListener()
		}
	case 122, 121, 120:
		w.changeTable()
	}
}

// unlisten closes the first listener, with those that are in its queue.
func (w *world) unlisten() {
	l := w.listeners[0]
	w.listeners = w.listeners[1:]
	w.note("mail: unlisten %d", l.fd)
	w.askAll(mail{what: unlisten, fd: l.fd})
	w.turns()
	if len(l.watching) > 0 {
		w.fail("descriptor %d is still watched", l.fd)
	}
	w.files[l.fd] = nil
	for _, e := range l.queue {
		e.abort()
	}
}

// drain closes all listeners, and ends what is left.
func (w *world) drain() {
	w.toCome = 0
	for len(w.listeners) > 0 {
		w.unlisten()
	}
	w.askAll(mail{what: closeAhead})
	w.note("mail: cut all")
	w.cut = true
	w.askAll(mail{what: cutAll})
	w.turns()
	w.turns()
	if open := w.shared.open.Load(); open > 0 {
		w.fail("%d connections are left after the drain", open)
	}
}

// settle has all come to an end, and checks that it does.
func (w *world) settle() {
	w.settling = true
	for turns := 0; w.toCome > 0 || w.shared.open.Load() > 0 || w.queued(); turns++ {
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
		w.turns()
	}
	w.turns()
	w.askAll(mail{what: closeAhead})
	w.turns()
	w.askAll(mail{what: stop})
	w.turns()
	for _, l := range w.loops {
		l.freePipes()
	}
	for _, r := range w.remotes {
		r.settle()
		for r.ours.pending() || r.end.pending() || r.read() {
			r.ours.bring()
			r.end.bring()
		}
		r.read()
	}
	w.checkEnd()
	for _, l := range w.loops {
		w.census.events["ahead"] += int(l.counts.AheadUsed.Load())
		w.census.events["repeated"] += int(l.counts.AheadRepeated.Load())
	}
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
	if _, self := own(); address == self {
		w.fail("the gateway dials itself")
	}
	r := w.newRemote(e, &stream{}, false)
	e.ledger.address, e.ledger.since = address, w.now
	r.end.connecting, e.connecting = true, true
	switch {
	case answer == 13:
		r.silent = true
	case answer == 12:
		r.refuses = true
	case answer == 11:
		// It is there, and gone.
		r.answer()
		r.end.abort()
		r.end.deliver(0)
	case answer >= 10:
		r.answersLater = true
	default:
		r.answer()
	}
	return 0
}
