// Package tiny is what the mutation tool is tried on: Watched is tested well,
// Neglected is not, and a change in Same cannot be seen.
package tiny

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

// bound is what a constant is for: it takes a build of its own.
const bound = 3

// Bounded is n, but at most bound; its second parameter has no name.
func Bounded[T ~int](n, _ T) T { return min(n, bound) }

type list []int

// Add is a method with a receiver and parameters without names, and a variadic
// one.
func (list) Add(_ int, all ...int) (sum int) {
	for _, n := range all {
		sum += n
	}
	return sum
}
