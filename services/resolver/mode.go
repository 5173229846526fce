package resolver

import (
	"cmp"
	"slices"
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
// it shows is the highest, and which level that was is not known; where such a
// source shows none, the entries say nothing either: its agent has not merged
// them, and until it does Consul's own proxies do not follow them.
func (v *view) sourceLevels(s *source, up *isthmusv1.Upstream) []*isthmusv1.LevelMode {
	if s.merged {
		shown := s.shown(up)
		if shown == "" {
			return nil
		}
		return slices.Insert(v.entryLevels(s, up), 0, &isthmusv1.LevelMode{Level: isthmusv1.Level_LEVEL_MERGED, Mode: shown})
	}
	return setLevels(slices.Concat([]*isthmusv1.LevelMode{
		{Level: isthmusv1.Level_LEVEL_UPSTREAM, Mode: up.GetMeshGateway().GetMode()},
		v.overrideLevel(s, up),
		{Level: isthmusv1.Level_LEVEL_INSTANCE, Mode: s.mode},
	}, v.inheritedLevels(s)))
}

// entryLevels are the modes that config entries set for an upstream of a source,
// highest first: what it would inherit if its registration set none.
func (v *view) entryLevels(s *source, up *isthmusv1.Upstream) []*isthmusv1.LevelMode {
	return setLevels(slices.Insert(v.inheritedLevels(s), 0, v.overrideLevel(s, up)))
}

// overrideLevel is the mode that the source's service-defaults set for one
// upstream, if any.
func (v *view) overrideLevel(s *source, up *isthmusv1.Upstream) *isthmusv1.LevelMode {
	return &isthmusv1.LevelMode{
		Level: isthmusv1.Level_LEVEL_OVERRIDE,
		Mode:  findOverride(v.serviceDefaults(s.service), s, up).GetMeshGateway().GetMode(),
		Key:   serviceDefaultsKey(s.service),
	}
}

// inheritedLevels are those below the instance, set or not.
func (v *view) inheritedLevels(s *source) []*isthmusv1.LevelMode {
	sd, sdKey := v.serviceDefaults(s.service), serviceDefaultsKey(s.service)
	pd, config := v.proxyDefaults(s.service.GetPartition())
	return []*isthmusv1.LevelMode{
		{Level: isthmusv1.Level_LEVEL_UPSTREAM_DEFAULTS, Mode: sd.GetUpstreamDefaults().GetMeshGateway().GetMode(), Key: sdKey},
		{Level: isthmusv1.Level_LEVEL_SERVICE_DEFAULTS, Mode: sd.GetMeshGateway().GetMode(), Key: sdKey},
		{Level: isthmusv1.Level_LEVEL_PROXY_DEFAULTS, Mode: cmp.Or(pd.GetMeshGateway().GetMode(), config.mode()), Key: proxyDefaultsKey(s.service)},
	}
}

// serviceDefaultsKey and proxyDefaultsKey are the keys by which a decision cites
// the entries of a service.
func serviceDefaultsKey(ref *isthmusv1.ServiceRef) string {
	return isthmusv1.ConfigKey(kindServiceDefaults, ref.GetPartition(), ref.GetNamespace(), ref.GetName()).String()
}

func proxyDefaultsKey(ref *isthmusv1.ServiceRef) string {
	return isthmusv1.ConfigKey(kindProxyDefaults, ref.GetPartition(), "", globalName).String()
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

// targetLevel is the mode of the target's own service-defaults, below all levels
// of the source.
func targetLevel(target *isthmusv1.ServiceRef, sd *isthmusv1.ServiceDefaults) *isthmusv1.LevelMode {
	return &isthmusv1.LevelMode{
		Level: isthmusv1.Level_LEVEL_TARGET_SERVICE_DEFAULTS,
		Mode:  sd.GetMeshGateway().GetMode(),
		Key:   serviceDefaultsKey(target),
	}
}

// targetLevels are those that a target has by itself, highest first. A chain
// asks the target's service-defaults and then proxy-defaults, and only where the
// source sets nothing: otherwise proxy-defaults are among the source's levels.
// The opaque mesh_gateway of proxy-defaults means nothing to a chain.
func (v *view) targetLevels(target *isthmusv1.ServiceRef, source []*isthmusv1.LevelMode) []*isthmusv1.LevelMode {
	levels := []*isthmusv1.LevelMode{targetLevel(target, v.serviceDefaults(target))}
	if len(source) == 0 {
		pd, _ := v.proxyDefaults(target.GetPartition())
		levels = append(levels, &isthmusv1.LevelMode{
			Level: isthmusv1.Level_LEVEL_PROXY_DEFAULTS,
			Mode:  pd.GetMeshGateway().GetMode(),
			Key:   proxyDefaultsKey(target),
		})
	}
	return setLevels(levels)
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
// as the upstream's are. What an agent merges is found by the exact name, as
// Consul finds it: another spelling explains nothing that it shows.
func findOverride(sd *isthmusv1.ServiceDefaults, s *source, up *isthmusv1.Upstream) *isthmusv1.UpstreamConfig {
	want := s.destination(up)
	for _, o := range sd.GetUpstreamOverrides() {
		ref := s.qualify(o.GetPartition(), o.GetNamespace(), o.GetName())
		if ref.Qualified() == want.Qualified() && strings.EqualFold(o.GetPeer(), up.GetDestinationPeer()) &&
			(!s.merged || o.GetName() == up.GetDestinationName()) {
			return o
		}
	}
	return nil
}
