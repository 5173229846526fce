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
			sleep()
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

// sleep stops this process until somebody lets it go on. The call may return before
// all threads have stopped, so what tells is the signal to go on.
func sleep() {
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	defer signal.Stop(goesOn)
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err == nil {
		<-goesOn
	}
}
