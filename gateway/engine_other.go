//go:build !linux

package gateway

// engines are those of this system, the default first.
var engines = []namedEngine{portable}
