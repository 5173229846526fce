package relay_test

import (
	"os"
	"strings"
	"testing"
)

// pipes counts the pipes that this process holds.
func pipes(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "pipe:") {
			n++
		}
	}
	return n
}

// A pair that has moved a big stream and is idle again holds no pipe: what is
// pooled does not grow with the pairs.
func TestIdlePairsHoldNoPipes(t *testing.T) {
	before := pipes(t)
	const pairs = 30
	for range pairs {
		j := startJoin(t.Context(), t, "tcp")
		stream(t, j.client, j.upstream, 2<<20)
		write(t, j.client, "idle now")
		read(t, j.upstream, "idle now")
		t.Cleanup(func() {
			_ = j.client.Close()
			_ = j.upstream.Close()
			<-j.result
		})
	}
	if grown := pipes(t) - before; grown > pairs/2 {
		t.Errorf("%d idle pairs hold %d ends of pipes", pairs, grown)
	}
}
