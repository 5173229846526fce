//go:build unix

package envoy

import (
	"os"
	"os/signal"
	"syscall"
)

// terminate is what tells an Envoy to stop.
const terminate = syscall.SIGTERM

// Signals are those that are passed on to Envoy, from now until release is called: what
// comes before it is started is not lost.
func Signals() (signals <-chan os.Signal, release func()) {
	out := make(chan os.Signal, 16)
	signal.Notify(out, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return out, func() { signal.Stop(out) }
}

// Ends reports whether a signal means that this process should end.
func Ends(s os.Signal) bool { return s == syscall.SIGTERM || s == syscall.SIGINT }

// exitStatus is what a shell makes of an end.
func exitStatus(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
