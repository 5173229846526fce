package e2e_test

import (
	"testing"
	"time"
)

// settled is how many requests must have been answered before something is done
// to the world, and after it.
const settled = 200

// TestRestartsUnderLoad kills and restarts one process at a time.
func TestRestartsUnderLoad(t *testing.T) {
	w := newWorld(t, 0)
	w.startBus()
	w.startControl()
	w.startData()
	t.Logf("all is up: a change takes %s", w.change().Round(time.Millisecond))

	for _, kind := range []string{"watcher", "resolver"} {
		t.Run(kind, func(t *testing.T) {
			active, second := w.roles[kind+".dc1.a"], w.roles[kind+".dc1.b"]
			l := w.startLoad(t, true)
			l.more(t, settled)
			active.kill(t)
			dead := w.change()
			l.more(t, settled)
			active.start(w.t)
			back := w.change()
			second.stop(t)
			alone := w.change()
			second.start(w.t)
			l.more(t, settled)
			l.verdict(t, "%s killed: a change took %s with the hot second, %s with the first back, %s after the second was stopped",
				kind, dead.Round(time.Millisecond), back.Round(time.Millisecond), alone.Round(time.Millisecond))
		})
	}
	t.Run("bus", func(t *testing.T) {
		l := w.startLoad(t, true)
		l.more(t, settled)
		w.bus.kill(t)
		l.more(t, settled)
		restarted := time.Now()
		w.bus.start(w.t)
		up := time.Since(restarted)
		after := w.change()
		l.more(t, settled)
		l.verdict(t, "bus killed: up again %s after its start, then a change took %s", up.Round(time.Millisecond), after.Round(time.Millisecond))
	})
	t.Run("gateway handed over", w.testHandover)
	t.Run("gateway without a bus", w.testSavedTable)
}

// testHandover starts a successor of a gateway under load: no request fails,
// kept connections live on in the old process, which ends when they do.
func (w *world) testHandover(t *testing.T) {
	old := w.roles["dc2-gateway-1"]
	idle := old.awaitIdle(t, 0)
	l := w.startLoad(t, true)
	l.more(t, settled)
	next := *old
	w.admins++
	next.admin = w.role("successor").admin
	next.start(w.t)
	l.more(t, settled)
	l.verdict(t, "gateway handed over")
	old.awaitEnd(t)
	now := next.awaitIdle(t, idle)
	t.Logf("descriptors of the gateway when idle: %d before, %d after", idle, now)
	w.roles["dc2-gateway-1"] = &next
}

// testSavedTable restarts a gateway while the bus is away: it serves from its
// saved table.
func (w *world) testSavedTable(t *testing.T) {
	gateway := w.roles["dc2-gateway-2"]
	l := w.startLoad(t, false)
	l.more(t, settled)
	w.bus.kill(t)
	gateway.stop(t)
	l.more(t, settled)
	gateway.launch(w.t)
	served := w.awaitPassage(t, "api", w.dc2+"21:8444")
	l.more(t, settled)
	l.verdict(t, "gateway restarted without a bus: first connection passed %s after its start", served.Round(time.Millisecond))
	w.bus.start(w.t)
	gateway.awaitReady(w.t)
	t.Logf("the bus is back: a change takes %s", w.change().Round(time.Millisecond))
}
