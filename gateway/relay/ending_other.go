//go:build !unix

package relay

// wasReset is not known here.
func wasReset(Conn) bool { return false }
