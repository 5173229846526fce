package resolver

import (
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Pending says whether the agent of a proxy whose registration shows merged modes
// has yet to merge the config entries as they are. The registration as it was
// made cannot be read, so a mode that it shows may always be its own; only an
// empty one cannot.
type Pending string

// The grades of Pending.
const (
	// PendingNot: the mode shown is what the entries come to, or they set none.
	PendingNot Pending = ""
	// PendingPossible: the modes of the proxy differ among themselves, so its
	// upstream definition or its instance is likelier to have set this one.
	PendingPossible Pending = "possible"
	// PendingLikely: the instance and all upstreams show one mode, as they do when
	// all have inherited it, and the entries now come to another. An instance that
	// sets this mode itself looks the same.
	PendingLikely Pending = "likely"
	// PendingCertain: no mode is shown although an entry sets one. No registration
	// explains that.
	PendingCertain Pending = "certain"
)

// pending grades an upstream.
func (v *view) pending(s *source, up *isthmusv1.Upstream) Pending {
	var grade Pending
	if s.merged && !isQuery(up) {
		entries, shown := v.entryLevels(s, up), s.shown(up)
		switch {
		case len(entries) == 0 || entries[0].GetMode() == shown:
		case shown == "":
			grade = PendingCertain
		case v.allShow(s, shown):
			grade = PendingLikely
		default:
			grade = PendingPossible
		}
	}
	return grade
}

// allShow reports whether the instance and all its upstreams show one mode. An
// upstream that shows what its override sets is as it should be, and no agent
// merges a mode into a prepared query.
func (v *view) allShow(s *source, mode string) bool {
	sd := v.serviceDefaults(s.service)
	return s.mode == mode && !slices.ContainsFunc(s.upstreams, func(o sourceUpstream) bool {
		shown := o.upstream.GetMeshGateway().GetMode()
		return !isQuery(o.upstream) && shown != mode &&
			(shown == "" || shown != findOverride(sd, s, o.upstream).GetMeshGateway().GetMode())
	})
}

// pendingProblem states what is certain or likely.
func (v *view) pendingProblem(s *source, up *isthmusv1.Upstream) *isthmusv1.Problem {
	const fix = "if it stays, look at the agent that the proxy is registered with: it merges changed entries within seconds while it runs"
	grade := v.pending(s, up)
	if grade != PendingCertain && grade != PendingLikely {
		return nil
	}
	entry := v.entryLevels(s, up)[0]
	if grade == PendingCertain {
		return problemWarning(CodeModePendingAgent, fix,
			"pending agent: the proxy shows no mode, although %s sets %s; its agent has not merged it yet", entryName(entry.GetKey()), entry.GetMode())
	}
	return problemWarning(CodeModePendingAgent, fix,
		"pending agent, unless the upstream definition or the instance sets it: the proxy shows mode %s, while %s comes to %s",
		s.shown(up), entryName(entry.GetKey()), entry.GetMode())
}

// entryLevel reports whether a level is one that an agent merges from config
// entries.
func entryLevel(l *isthmusv1.LevelMode) bool {
	switch l.GetLevel() {
	case isthmusv1.Level_LEVEL_OVERRIDE, isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS,
		isthmusv1.Level_LEVEL_SERVICE_DEFAULTS, isthmusv1.Level_LEVEL_PROXY_DEFAULTS:
		return true
	}
	return false
}

// likeliest are the levels that a merged mode probably comes from, highest first:
// the entry that comes to it now, else the registration, of which the upstream
// definition and the instance are told apart where they can be.
func likeliest(d *isthmusv1.Decision, s *source, up *isthmusv1.Upstream) []*isthmusv1.LevelMode {
	shown := d.GetWinner().GetMode()
	if d.GetWinner().GetLevel() != isthmusv1.Level_LEVEL_MERGED {
		return nil
	}
	overridden := false
	if hidden := d.GetHidden(); len(hidden) > 0 && entryLevel(hidden[0]) {
		if hidden[0].GetMode() == shown {
			return hidden[:1]
		}
		overridden = hidden[0].GetLevel() == isthmusv1.Level_LEVEL_OVERRIDE
	}
	definition := &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_UPSTREAM, Mode: shown}
	instance := &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_INSTANCE, Mode: shown}
	switch {
	case up.GetMeshGateway().GetMode() == "":
		return []*isthmusv1.LevelMode{instance}
	case s.mode != shown || overridden:
		// A mode of the instance would show at the instance, and an override beats it.
		return []*isthmusv1.LevelMode{definition}
	}
	return []*isthmusv1.LevelMode{definition, instance}
}
