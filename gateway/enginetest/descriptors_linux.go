package enginetest

import (
	"os"
	"strings"
	"testing"
)

// descriptors counts the descriptors of this process by kind. Pipes are left out:
// they may be pooled; see pipes.
func descriptors(t *testing.T) map[string]int {
	t.Helper()
	counts := kinds(t)
	delete(counts, "pipe")
	return counts
}

// pipes counts the ends of pipes that this process holds.
func pipes(t *testing.T) int {
	t.Helper()
	return kinds(t)["pipe"]
}

func kinds(t *testing.T) map[string]int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // It was the directory itself.
		}
		kind, _, _ := strings.Cut(target, ":")
		if kind == "anon_inode" {
			kind = target
		}
		counts[kind]++
	}
	return counts
}
