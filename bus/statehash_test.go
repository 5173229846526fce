package bus_test

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// The bytes are what every writer and reader must agree on for ever.
func TestStateHashIsGolden(t *testing.T) {
	var sum bus.StateSum
	sum.Add(isthmusv1.NodeKey("", "a"), []byte("1"))
	sum.Add(isthmusv1.RootsKey(), nil)
	const want = "66919580623e28af93472ed365599b1caabd19816e6dfdd127a0367212f264f6"
	if got := hex.EncodeToString(sum.Hash().GetSum()); got != want {
		t.Errorf("got %s", got)
	}
}

func TestStateHashKnowsOnlyTheSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.MapOfN(rapid.StringMatching(`[a-z./]{0,6}`), rapid.SliceOf(rapid.Byte()), 1, 20).Draw(t, "set")
		seed := rapid.Uint64().Draw(t, "seed")
		var inOrder, shuffled bus.StateSum
		keys := make([]string, 0, len(values))
		for name, value := range values {
			keys = append(keys, name)
			inOrder.Add(isthmusv1.NodeKey("", name), value)
		}
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		passing := []byte("passing")
		shuffled.Add(isthmusv1.RootsKey(), passing)
		for _, name := range keys {
			shuffled.Add(isthmusv1.NodeKey("", name), passing)
			shuffled.Add(isthmusv1.NodeKey("", name), values[name])
			shuffled.Remove(isthmusv1.NodeKey("", name), passing)
		}
		shuffled.Remove(isthmusv1.RootsKey(), passing)
		if !shuffled.Matches(inOrder.Hash()) {
			t.Fatalf("the order matters")
		}
		shuffled.Add(isthmusv1.RootsKey(), nil)
		if shuffled.Matches(inOrder.Hash()) {
			t.Fatalf("a key with an empty value does not matter")
		}
	})
}

func TestStateHashTellsKeysFromValues(t *testing.T) {
	hash := func(key isthmusv1.Key, value string) string {
		var sum bus.StateSum
		sum.Add(key, []byte(value))
		return string(sum.Hash().GetSum())
	}
	seen := make(map[string]bool)
	for _, h := range []string{
		hash(isthmusv1.NewKey("node", "a"), "b"), hash(isthmusv1.NewKey("node", "ab"), ""),
		hash(isthmusv1.NewKey("node", "a", "b"), ""), hash(isthmusv1.NewKey("node", "a.b"), ""),
		hash(isthmusv1.NewKey("node"), "ab"),
	} {
		if seen[h] {
			t.Error("two pairs have one hash")
		}
		seen[h] = true
	}
}

func TestAHashOfAnotherAlgorithmCannotBeJudged(t *testing.T) {
	var sum bus.StateSum
	if !sum.Matches(&isthmusv1.StateHash{Algorithm: "of the future", Sum: []byte("x")}) {
		t.Error("it was refused")
	}
}
