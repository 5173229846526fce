//go:build !unix

package sds

import "errors"

// lock is not there on this system, and no Envoy is either.
func lock(string) (unlock func(), err error) { return nil, errors.ErrUnsupported }

func refused(error) bool { return false }
