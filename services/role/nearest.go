package role

// Nearest returns the candidate that a misspelled name most likely means, or
// nothing when none is near: one edit for short names, up to a third of the
// name's letters for long ones. Of equally near ones the first counts.
func Nearest(name string, candidates []string) string {
	best, nearest := max(1, len(name)/3)+1, ""
	for _, candidate := range candidates {
		if d := distance(name, candidate); d < best {
			best, nearest = d, candidate
		}
	}
	return nearest
}

// distance is the number of bytes to insert, delete, replace or swap with the
// next to make one name of the other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
