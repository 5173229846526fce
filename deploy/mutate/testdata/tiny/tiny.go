// Package tiny is what the mutation tool is tried on: Watched is tested well,
// Neglected is not, and a change in Same cannot be seen.
package tiny

// Watched is true for 1 to 9.
func Watched(n int) bool {
	return n > 0 && n < 10
}

// Neglected is 1 for small numbers.
func Neglected(n int) int {
	if n < 5 {
		return 1
	}
	return 2
}

// Same is n or more.
func Same(n int) int {
	total := n
	for i := 0; i < 0; i++ {
		total++
	}
	return total
}
