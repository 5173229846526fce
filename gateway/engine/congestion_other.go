//go:build !linux

package engine

// unpaced is none, as there is no choice.
func unpaced() (string, error) { return "", nil }

func setCongestion(uintptr, string) {}
