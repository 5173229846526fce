package tiny

// Watched is true for 1 to 9.
func Watched(n int) bool {
	return n > 0 && n < 10
}
