package resolver

import (
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// sticky states that a mode of UpstreamConfig.Defaults may be one of Consul's
// sticky ones: its servers write the mode that Defaults inherit into the stored
// entry, where it stays when the level that it came from changes (reference 1.1).
// A mode that was written there looks the same, so what is stated is what can be
// seen: it hides another one, which it would inherit today. levels are those of
// a decision, from the one that decides down. In files a mode is what was written.
func sticky(levels []ExplainedLevel) *isthmusv1.Problem {
	if len(levels) < 2 {
		return nil
	}
	defaults, below := levels[0], levels[1]
	if defaults.GetLevel() != isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS || !entryLevel(below.LevelMode) ||
		below.GetMode() == defaults.GetMode() || !defaults.fromConsul() {
		return nil
	}
	entry := entryName(defaults.GetKey())
	return problemWarning(CodeStickyDefaults,
		"rewrite "+entry+": `consul config write`, with the mode that you mean in UpstreamConfig.Defaults, so that none is inherited and kept",
		"possibly a sticky default: UpstreamConfig.Defaults of %s has mode %s, which hides %s of %s; if nobody wrote it there, Consul's servers inherited it once and keep it",
		entry, defaults.GetMode(), below.GetMode(), entryName(below.GetKey()))
}

// fromConsul reports whether the level's value was read by a query, not in a file.
func (l ExplainedLevel) fromConsul() bool { return l.Origin != nil && l.Origin.Source.GetQuery() != "" }

// entryName is a key that a decision cites as people name the entry.
func entryName(key string) string { return strings.TrimPrefix(key, string(isthmusv1.KindConfig)+"/") }
