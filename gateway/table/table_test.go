package table_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

func route(name string) *table.Route {
	return &table.Route{
		Name: name, Wildcard: strings.HasPrefix(name, "*."),
		Endpoints: table.NewSet(table.Ejection{}), Counters: new(table.Counters),
	}
}

func tableOf(names ...string) *table.Table {
	var routes []*table.Route
	for _, name := range names {
		routes = append(routes, route(name))
	}
	return new(table.Table).With(routes, nil)
}

func found(t *table.Table, name string) string {
	if r := t.Lookup([]byte(name)); r != nil {
		return r.Name
	}
	return "nothing"
}

func TestLookup(t *testing.T) {
	tab := tableOf(
		"api.default.dc1.internal.td", "v2.api.default.dc1.internal.td",
		"*.dc2.internal.td", "*.ap1.dc3.internal-v1.td", "*.special.dc2.internal.td", "exact.dc2.internal.td",
	)
	for name, want := range map[string]string{
		"api.default.dc1.internal.td":        "api.default.dc1.internal.td",
		"v2.api.default.dc1.internal.td":     "v2.api.default.dc1.internal.td",
		"v3.api.default.dc1.internal.td":     "nothing",
		"default.dc1.internal.td":            "nothing",
		"api.default.dc2.internal.td":        "*.dc2.internal.td",
		"v2.api.default.dc2.internal.td":     "*.dc2.internal.td",
		"x.dc2.internal.td":                  "*.dc2.internal.td",
		"exact.dc2.internal.td":              "exact.dc2.internal.td",
		"x.special.dc2.internal.td":          "*.special.dc2.internal.td",
		"special.dc2.internal.td":            "*.dc2.internal.td",
		"api.default.ap1.dc3.internal-v1.td": "*.ap1.dc3.internal-v1.td",
		"dc2.internal.td":                    "nothing",
		".dc2.internal.td":                   "nothing",
		"xdc2.internal.td":                   "nothing",
		"api.default.dc2.internal.other":     "nothing",
		"api.default.dc2.internal.td.evil":   "nothing",
		"*.dc2.internal.td":                  "*.dc2.internal.td",
		"":                                   "nothing",
		".":                                  "nothing",
		strings.Repeat("a.", 127):            "nothing",
	} {
		if got := found(tab, name); got != want {
			t.Errorf("%q leads to %s; want %s", name, got, want)
		}
	}
}

func TestEmptyTableFindsNothing(t *testing.T) {
	var tab table.Table
	if got := found(&tab, "api.default.dc1.internal.td"); got != "nothing" {
		t.Errorf("got %s", got)
	}
	if n, w := tab.Len(); n != 0 || w != 0 {
		t.Errorf("%d names and %d wildcards", n, w)
	}
	for r := range tab.All {
		t.Errorf("a route %s", r.Name)
	}
}

// With behaves as a map would, and no table that was given out ever changes.
func TestWithIsAMapThatKeepsItsPast(t *testing.T) {
	names := []string{"*.a.td", "*.b.a.td", "*.c"}
	for i := range 12 {
		names = append(names, fmt.Sprintf("s%d.a.td", i))
	}
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			table *table.Table
			model map[string]*table.Route
		}
		past := []version{{new(table.Table), map[string]*table.Route{}}}
		for range rapid.IntRange(1, 12).Draw(t, "versions") {
			last := past[len(past)-1]
			next := version{model: maps.Clone(last.model)}
			drop := rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(t, "drop")
			var set []*table.Route
			for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 4).Draw(t, "set") {
				set = append(set, route(name))
			}
			for _, name := range drop {
				delete(next.model, name)
			}
			for _, r := range set {
				next.model[r.Name] = r
			}
			next.table = last.table.With(set, drop)
			past = append(past, next)
		}
		for _, v := range past {
			got := make(map[string]*table.Route)
			for r := range v.table.All {
				got[r.Name] = r
			}
			if !maps.Equal(got, v.model) {
				t.Fatalf("routes %v; want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(v.model)))
			}
			exact, wildcards := v.table.Len()
			if exact+wildcards != len(v.model) {
				t.Fatalf("Len says %d and %d of %d", exact, wildcards, len(v.model))
			}
			for _, name := range names {
				want := "nothing"
				if v.model[name] != nil {
					want = name
				}
				if !strings.HasPrefix(name, "*") && want == "nothing" && v.model["*.a.td"] != nil {
					want = "*.a.td"
				}
				if strings.HasPrefix(name, "*") {
					continue
				}
				if got := found(v.table, name); got != want {
					t.Fatalf("%s leads to %s; want %s", name, got, want)
				}
			}
		}
	})
}

func TestAllCanBeLeft(t *testing.T) {
	tab := tableOf("a", "b", "*.c")
	for want := 1; want <= 3; want++ {
		n := 0
		for range tab.All {
			if n++; n == want {
				break
			}
		}
		if n != want {
			t.Errorf("left after %d; want %d", n, want)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	tab := tableOf("api.default.dc1.internal.td", "*.dc2.internal.td")
	for _, name := range []string{"api.default.dc1.internal.td", "web.default.dc2.internal.td", "no.such.name"} {
		b := []byte(name)
		if n := testing.AllocsPerRun(100, func() { tab.Lookup(b) }); n != 0 {
			t.Errorf("%v allocations to look up %s", n, name)
		}
	}
}

func big(names int) *table.Table {
	var routes []*table.Route
	for i := range names {
		routes = append(routes, route(fmt.Sprintf("service-%d.default.dc1.internal.td", i)))
	}
	return new(table.Table).With(append(routes, route("*.dc2.internal.td")), nil)
}

// The cost of one name follows the change, not the table: one of 256 parts is
// copied.
func TestOneNameCostsAPartOfTheTable(t *testing.T) {
	cost := func(names int) float64 {
		tab, one := big(names), []*table.Route{route("new.default.dc1.internal.td")}
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			tab.With(one, nil)
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / runs
	}
	if small, large := cost(100), cost(20000); large > 8*small+32<<10 {
		t.Errorf("setting one name takes %.0f bytes at 100 names and %.0f at 20,000", small, large)
	}
}

func BenchmarkLookup(b *testing.B) {
	tab := big(10000)
	for _, name := range []string{"service-7777.default.dc1.internal.td", "web.default.dc2.internal.td", "unknown.default.dc1.internal.td"} {
		key := []byte(name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tab.Lookup(key)
			}
		})
	}
}

func BenchmarkWithOneName(b *testing.B) {
	for _, names := range []int{100, 10000} {
		tab, one := big(names), []*table.Route{route("new.default.dc1.internal.td")}
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tab.With(one, nil)
			}
		})
	}
}
