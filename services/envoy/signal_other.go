//go:build !unix

package envoy

import (
	"os"
	"os/signal"
)

// terminate ends a process here.
var terminate = os.Kill

// Signals are those that are passed on to Envoy, from now until release is called.
func Signals() (signals <-chan os.Signal, release func()) {
	out := make(chan os.Signal, 16)
	signal.Notify(out, os.Interrupt)
	return out, func() { signal.Stop(out) }
}

// Ends reports whether a signal means that this process should end.
func Ends(s os.Signal) bool { return s == os.Interrupt }

func exitStatus(state *os.ProcessState) int { return state.ExitCode() }
