package resolver

import (
	"cmp"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Kinds of config entries, and the name of those that hold for a partition.
const (
	kindProxyDefaults     = "proxy-defaults"
	kindServiceDefaults   = "service-defaults"
	kindServiceResolver   = "service-resolver"
	kindServiceSplitter   = "service-splitter"
	kindServiceRouter     = "service-router"
	kindServiceIntentions = "service-intentions"
	kindMesh              = "mesh"
	globalName            = "global"
)

// sourceLevels are the modes set for an upstream on the side of its source,
// highest first; levels that set none are left out. The order is Consul's
// (reference 1.1). Where the source shows modes with the entries merged in, what
// it shows is the highest, and which level that was is not known.
func (v *view) sourceLevels(s *source, up *isthmusv1.Upstream) []*isthmusv1.LevelMode {
	upstream := up.GetMeshGateway().GetMode()
	instance := s.mode
	sd := v.serviceDefaults(s.service)
	sdKey := isthmusv1.ConfigKey(kindServiceDefaults, s.service.GetPartition(), s.service.GetNamespace(), s.service.GetName()).String()
	override := findOverride(sd, s, up).GetMeshGateway().GetMode()
	defaults := sd.GetUpstreamDefaults().GetMeshGateway().GetMode()
	pd, config := v.proxyDefaults(s.service.GetPartition())
	global := pd.GetMeshGateway().GetMode()
	if global == "" {
		global = config.mode()
	}
	pdKey := isthmusv1.ConfigKey(kindProxyDefaults, s.service.GetPartition(), "", globalName).String()

	entries := []*isthmusv1.LevelMode{
		{Level: isthmusv1.Level_LEVEL_OVERRIDE, Mode: override, Key: sdKey},
		{Level: isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS, Mode: defaults, Key: sdKey},
		{Level: isthmusv1.Level_LEVEL_SERVICE_DEFAULTS, Mode: sd.GetMeshGateway().GetMode(), Key: sdKey},
		{Level: isthmusv1.Level_LEVEL_PROXY_DEFAULTS, Mode: global, Key: pdKey},
	}
	if s.merged {
		shown := &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_MERGED, Mode: cmp.Or(upstream, instance)}
		return setLevels(append([]*isthmusv1.LevelMode{shown}, entries...))
	}
	return setLevels([]*isthmusv1.LevelMode{
		{Level: isthmusv1.Level_LEVEL_UPSTREAM, Mode: upstream},
		entries[0],
		{Level: isthmusv1.Level_LEVEL_INSTANCE, Mode: instance},
		entries[1],
		entries[2],
		entries[3],
	})
}

// setLevels keeps the levels that set a mode.
func setLevels(levels []*isthmusv1.LevelMode) []*isthmusv1.LevelMode {
	var out []*isthmusv1.LevelMode
	for _, l := range levels {
		if l.GetMode() != "" {
			out = append(out, l)
		}
	}
	return out
}

// targetLevel is the mode of the target's own service-defaults, the lowest
// level; nil when it sets none.
func targetLevel(target *isthmusv1.ServiceRef, sd *isthmusv1.ServiceDefaults) *isthmusv1.LevelMode {
	mode := sd.GetMeshGateway().GetMode()
	if mode == "" {
		return nil
	}
	return &isthmusv1.LevelMode{
		Level: isthmusv1.Level_LEVEL_TARGET_SERVICE_DEFAULTS,
		Mode:  mode,
		Key: isthmusv1.ConfigKey(kindServiceDefaults,
			target.GetPartition(), target.GetNamespace(), target.GetName()).String(),
	}
}

// decide takes the highest level that sets a mode, with explicit none and
// invalid modes like any other, and remembers what it hides.
func decide(levels []*isthmusv1.LevelMode) *isthmusv1.Decision {
	if len(levels) == 0 {
		return &isthmusv1.Decision{
			Mode:   string(isthmusv1.ModeNone),
			Winner: &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_DEFAULT},
		}
	}
	return &isthmusv1.Decision{
		Mode:   string(isthmusv1.Mode(levels[0].GetMode()).Effective()),
		Winner: levels[0],
		Hidden: levels[1:],
	}
}

// decideExternal is the decision for a target with an external SNI: no gateway
// routes such a name, so every level is hidden.
func decideExternal(levels []*isthmusv1.LevelMode) *isthmusv1.Decision {
	d := decide(nil)
	d.Hidden = levels
	return d
}

// findOverride is the source's service-defaults for one upstream. Names match
// without case; an override's empty namespace and partition are the source's,
// as the upstream's are.
func findOverride(sd *isthmusv1.ServiceDefaults, s *source, up *isthmusv1.Upstream) *isthmusv1.UpstreamConfig {
	want := s.destination(up)
	for _, o := range sd.GetUpstreamOverrides() {
		ref := s.qualify(o.GetPartition(), o.GetNamespace(), o.GetName())
		if ref.Qualified() == want.Qualified() && strings.EqualFold(o.GetPeer(), up.GetDestinationPeer()) {
			return o
		}
	}
	return nil
}
