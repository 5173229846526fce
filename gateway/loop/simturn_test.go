//go:build linux

package loop

import "time"

// turns has every loop take a turn.
func (w *world) turns() {
	for i := range w.loops {
		w.turn(i)
	}
}

// turn has a loop wait and take a turn.
func (w *world) turn(i int) {
	l := w.loops[i]
	patience := l.patience()
	asked := len(l.mail.mails)
	if patience != 0 && asked == 0 {
		w.checkNothingLost(l)
	}
	n := l.kernel.wait(w.events[:], patience)
	switch {
	case n > 0 || asked > 0 || patience <= 0:
		w.now += int64(w.below(100_000))
	case w.settling || w.below(8) == 7:
		// Other loops may have to do something before.
		w.now += int64(w.shortest(patience)) + int64(w.below(2_000_000))
	case w.below(4) == 3:
		w.now += int64(w.below(int(w.shortest(patience)) + 1))
	default:
		w.now += int64(min(w.shortest(patience), time.Duration(w.below(10_000_000))))
	}
	w.eventsNow, w.startCalls, w.startGained = n+asked+l.again.length(), w.calls, w.gained
	if w.eventsNow > 0 {
		w.note("-- turn of loop %d at %s: %d events, %d again, %d mails", i, time.Duration(w.now-birth), n, l.again.length(), asked)
	}
	w.take(l)
	w.turnsTaken++
	l.turn(time.Unix(0, w.now), w.events[:n])
	if w.planted != nil {
		w.planted(w, l)
	}
	w.idleTurns[i]++
	if w.calls != w.startCalls || patience != 0 {
		w.idleTurns[i] = 0
	}
	if w.idleTurns[i] > 3 {
		w.fail("the loop spins: turn after turn has nothing to do")
	}
	w.checkTurn(l)
}

// take counts what is before a loop.
func (w *world) take(l *loop) {
	w.census.events["again"] += l.again.length()
	if l.resumeAt != 0 {
		w.census.events["paused"]++
	}
	for _, m := range l.mail.mails {
		switch m.what {
		case take:
			w.census.events["moved"]++
		case begin:
			w.census.events["handed over"]++
		default:
		}
	}
}

// shortest is how long no loop has anything to do.
func (w *world) shortest(longest time.Duration) time.Duration {
	for _, l := range w.loops {
		if p := l.patience(); p >= 0 {
			longest = min(longest, p)
		}
	}
	return longest
}
