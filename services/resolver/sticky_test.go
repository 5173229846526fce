package resolver

import (
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestStickyNeedsAQuery: only what a query showed may be sticky; what came from a
// file was written there, and of what came from nowhere nothing is known.
func TestStickyNeedsAQuery(t *testing.T) {
	for name, test := range map[string]struct {
		origin *Origin
		want   bool
	}{
		"a query":   {&Origin{Source: &isthmusv1.Source{Query: "config"}}, true},
		"a file":    {&Origin{Source: &isthmusv1.Source{File: "web.hcl", Line: 3}}, false},
		"no source": {&Origin{}, false},
		"no origin": {nil, false},
	} {
		levels := []ExplainedLevel{
			{LevelMode: &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS, Mode: "local"}, Origin: test.origin},
			{LevelMode: &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_PROXY_DEFAULTS, Mode: "remote"}},
		}
		if got := sticky(levels) != nil; got != test.want {
			t.Errorf("%s: suspected %v, want %v", name, got, test.want)
		}
	}
}
