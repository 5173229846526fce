//go:build !linux

package engine

// unpaced is none, as there is no choice.
func unpaced() string { return "" }

func setCongestion(uintptr, string) {}
