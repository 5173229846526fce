package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// Limits.
const (
	clockWarns  = 2 * time.Second
	clockFails  = 30 * time.Second
	mirrorWarns = 10 * time.Second
	mirrorFails = time.Minute
	// reportStale is older than a full report may be, of which there is one a minute.
	reportStale = 2 * time.Minute
)

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %s", n, plural(noun))
}

// values are a map's different values, sorted.
func values(m map[string]string) []string {
	return slices.Compact(slices.Sorted(maps.Values(m)))
}

// some are at most a few of the names, and how many more there are.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// skew is a clock's difference in words.
func skew(c consul.Clock) string {
	if c.AtLeast() == 0 {
		return "no difference to this machine's that an answer shows"
	}
	side := "ahead of"
	if c.Skew < 0 {
		side = "behind"
	}
	return fmt.Sprintf("%v %s this machine's, at least", c.AtLeast().Round(100*time.Millisecond), side)
}

// plural is a noun's.
func plural(noun string) string {
	if stem, ok := strings.CutSuffix(noun, "y"); ok && !strings.HasSuffix(noun, "way") {
		return stem + "ies"
	}
	return noun + "s"
}
