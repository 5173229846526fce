//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// suspends makes Ctrl-Z give the terminal back before the process stops, and take it
// again when it goes on. stop ends that.
func (s *screen) suspends() (stop func()) {
	asked, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(asked, syscall.SIGTSTP)
	go func() {
		defer close(ended)
		for range asked {
			s.mu.Lock()
			s.leave()
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // It may always stop itself, and returns when it goes on.
			s.enter()
			s.mu.Unlock()
		}
	}()
	return func() {
		signal.Stop(asked)
		close(asked)
		<-ended
	}
}
