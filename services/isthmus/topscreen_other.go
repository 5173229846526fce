//go:build !unix

package main

// suspends does nothing: nothing stops a process here and lets it go on.
func (*screen) suspends() (stop func()) { return func() {} }
