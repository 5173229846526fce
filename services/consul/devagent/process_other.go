//go:build !linux

package devagent

import "syscall"

// dieWithParent has no counterpart here: the child of a parent that is killed
// goes on.
func dieWithParent() *syscall.SysProcAttr { return nil }
