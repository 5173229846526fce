// Package onethread keeps tests of bubbles (testing/synctest) alive under the race
// detector.
//
// The timers of a bubble share one race context, which in Go 1.26 two threads may write
// at once (a timer of the scheduler's, and one that a select finds due); the process
// then dies of SIGSEGV inside the detector, about once in some thousand bubbles. One
// thread is enough for it: the detector goes by what happens before what, not by what
// runs at once.
package onethread

import "runtime"

// UnderRace has the process run Go on one thread if it has the race detector. Call it
// in TestMain.
func UnderRace() {
	if raceDetector {
		runtime.GOMAXPROCS(1)
	}
}
