package definition

import "strings"

// suggest returns the known name that is most likely meant, or nothing.
func suggest(written string, known []string) string {
	written = squeeze(written)
	if len(written) > 64 {
		return ""
	}
	best, distance := "", 1+max(1, len(written)/3)
	for _, name := range known {
		if n := edits(written, squeeze(name)); n < distance {
			best, distance = name, n
		}
	}
	return best
}

func squeeze(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(key), "_", ""), "-", "")
}

// edits counts the letters to insert, remove, replace or swap between two texts.
func edits(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
