package devagent

import "syscall"

// dieWithParent has the kernel kill the child when its parent ends in any way.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
