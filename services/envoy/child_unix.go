//go:build unix && !linux

package envoy

import "syscall"

// attributes make the child a process group of its own, so that a terminal's signal
// reaches it once, by way of us. The child of a parent that is killed goes on.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
