package envoy

import "syscall"

// attributes make the child a process group of its own, so that a terminal's signal
// reaches it once, by way of us; and the kernel kills it when its parent ends in any way.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
