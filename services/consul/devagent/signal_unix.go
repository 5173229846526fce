//go:build unix

package devagent

import "syscall"

// halt stops the process where it stands.
func (p *process) halt() error { return p.command.Process.Signal(syscall.SIGSTOP) }

// proceed lets a process go on that was halted.
func (p *process) proceed() error { return p.command.Process.Signal(syscall.SIGCONT) }
