package resolver_test

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// TestIncrementalEqualsRebuild: whatever the history, however its streams
// interleave and wherever Ready is called, the machine holds what a new one
// makes of the final state, and the updates add up to it.
func TestIncrementalEqualsRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		histories, state := randomHistories(t)
		incremental := resolver.New("dc1")
		replica := map[isthmusv1.Key][]byte{}
		for transaction := range interleaved(t, "first", histories) {
			incremental.Apply(transaction)
			if rapid.Bool().Draw(t, "ready") {
				follow(t, replica, incremental.Ready())
			}
		}
		other := resolver.New("dc1")
		for transaction := range interleaved(t, "second", histories) {
			other.Apply(transaction)
		}
		// What a catalog that stopped being whole leaves behind depends on when
		// it was asked; with it whole at the end nothing does.
		rebuilt := resolver.New("dc1")
		for _, dc := range rapid.Permutation(datacenters).Draw(t, "order") {
			rebuilt.Apply(state[dc].reset(dc, uint64(len(histories[dc]))))
		}
		update := incremental.Ready()
		follow(t, replica, update)
		want := collect(t, rebuilt.All())
		if diff := diffOutputs(want, collect(t, incremental.All())); diff != "" {
			t.Fatalf("incremental is not what a rebuild gives (-rebuild +incremental):\n%s", diff)
		}
		if diff := diffOutputs(want, collect(t, other.All())); diff != "" {
			t.Fatalf("another interleaving gives other routes (-rebuild +other):\n%s", diff)
		}
		if diff := diffOutputs(want, replica); diff != "" {
			t.Fatalf("the updates do not add up (-rebuild +updates):\n%s", diff)
		}
		if again := rebuilt.Ready(); !proto.Equal(again.Basis, update.Basis) {
			t.Fatalf("basis %s, want %s", again.Basis.Text(), update.Basis.Text())
		}
		referencesHold(t, incremental)
	})
}

// TestExplainNeverPanics asks for everything in random catalogs.
func TestExplainNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, state := randomHistories(t)
		m := resolver.New("dc1")
		for _, dc := range datacenters {
			m.Apply(state[dc].reset(dc, 1))
		}
		for key, value := range m.All() {
			p, ok := value.(*isthmusv1.ProxyRoutes)
			if !ok || len(p.GetBinds()) == 0 {
				continue
			}
			got, err := m.Explain(resolver.Question{Proxy: strings.Join(key.Parts(), "/")})
			if err != nil {
				t.Fatalf("%v: %v", key, err)
			}
			if len(got) != len(p.GetBinds()) {
				t.Fatalf("%v: %d explanations of %d upstreams", key, len(got), len(p.GetBinds()))
			}
		}
	})
}

// referencesHold checks that what is referred to is there, and that no set is
// there that nobody refers to.
func referencesHold(t fataler, m *resolver.Machine) {
	outputs := maps.Collect(m.All())
	used := map[isthmusv1.Key]bool{}
	use := func(ref *isthmusv1.EndpointSetRef) {
		if ref != nil {
			used[ref.ID().Key(0)] = true
		}
	}
	for _, value := range outputs {
		switch v := value.(type) {
		case *isthmusv1.RouteSet:
			for _, r := range v.GetRoutes() {
				for _, target := range r.GetTargets() {
					use(target.GetBackend())
					for _, ref := range target.GetEndpointSets() {
						use(ref)
					}
					if (target.GetPath() == isthmusv1.Path_PATH_NONE) != (len(target.GetEndpointSets()) == 0) {
						t.Fatalf("%s: path %v with %d sets", target.GetId(), target.GetPath(), len(target.GetEndpointSets()))
					}
					if target.GetPath() == isthmusv1.Path_PATH_NONE && len(target.GetProblems()) == 0 {
						t.Fatalf("%s: no path, and no problem says why", target.GetId())
					}
				}
			}
		case *isthmusv1.NameRoute:
			use(v.GetEndpoints())
		case *isthmusv1.WildcardRoute:
			use(v.GetEndpoints())
		case *isthmusv1.ProxyRoutes:
			if v.GetRoutesetHash() != "" {
				used[isthmusv1.RouteSetKey(v.GetService(), v.GetRoutesetHash())] = true
			}
		}
	}
	for key := range used {
		if outputs[key] == nil {
			t.Fatalf("%v is referred to and not there", key)
		}
	}
	for key := range outputs {
		if (key.Kind == isthmusv1.KindEndpoint || key.Kind == isthmusv1.KindRouteSet) && !used[key] {
			t.Fatalf("%v is there and nobody refers to it", key)
		}
	}
}

// follow keeps a copy of the routes by their updates, and checks their order.
func follow(t *rapid.T, replica map[isthmusv1.Key][]byte, u *resolver.Update) {
	if u == nil {
		return
	}
	for i, o := range u.Changes {
		if i > 0 {
			before := u.Changes[i-1]
			if before.Value == nil && o.Value != nil || (before.Value == nil) == (o.Value == nil) && before.Key.Compare(o.Key) >= 0 {
				t.Fatalf("%v before %v is not the order of emission", before.Key, o.Key)
			}
		}
		if o.Value == nil {
			if _, ok := replica[o.Key]; !ok {
				t.Fatalf("tombstone of %v, which was not there", o.Key)
			}
			delete(replica, o.Key)
			continue
		}
		text := marshal(t, o.Value)
		if bytes.Equal(replica[o.Key], text) && len(text) > 0 {
			t.Fatalf("%v changed to what it was", o.Key)
		}
		replica[o.Key] = text
	}
}

type fataler interface{ Fatalf(string, ...any) }

func marshal(t fataler, m proto.Message) []byte {
	text, err := isthmusv1.Marshal(m)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return text
}

func collect(t fataler, outputs iter.Seq2[isthmusv1.Key, proto.Message]) map[isthmusv1.Key][]byte {
	out := map[isthmusv1.Key][]byte{}
	for key, value := range outputs {
		out[key] = marshal(t, value)
	}
	return out
}

// diffOutputs shows the first differences of two sets of outputs as messages.
func diffOutputs(want, got map[isthmusv1.Key][]byte) string {
	var b strings.Builder
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, key := range slices.SortedFunc(maps.Keys(all), isthmusv1.Key.Compare) {
		x, inWant := want[key]
		y, inGot := got[key]
		if inWant == inGot && bytes.Equal(x, y) {
			continue
		}
		fmt.Fprintf(&b, "%v: %s\n", key, cmp.Diff(show(key, x, inWant), show(key, y, inGot)))
	}
	return b.String()
}

func show(key isthmusv1.Key, text []byte, there bool) string {
	if !there {
		return "(not there)"
	}
	m := isthmusv1.NewValue(key.Kind)
	if err := proto.Unmarshal(text, m); err != nil {
		return err.Error()
	}
	return fmt.Sprint(m)
}
