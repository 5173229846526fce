//go:build !unix

package envoy

import "syscall"

// attributes has no counterpart here.
func attributes() *syscall.SysProcAttr { return nil }
