package check

import (
	"fmt"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// modes judges the modes that are written in entries and registrations.
func (j *judge) modes(c seen) {
	var invalid, hidden int
	// written are the invalid modes of entries, and read says that proxy-defaults has
	// the opaque mode that is read: an agent merges both into its proxies.
	written, read := map[string]bool{}, false
	look := func(where string, mode *isthmusv1.MeshGateway) {
		if m := isthmusv1.Mode(mode.GetMode()); !m.Valid() {
			invalid++
			written[mode.GetMode()] = true
			j.fail(ModeInvalid, c.dc, where, "the mode is %q, which wins at its level and means direct", m).Fix = "write none, local or remote, exactly so"
		}
	}
	opaque := func(where string, config []byte) {
		for key := range keysOf(config) {
			if isOpaqueMode(key) {
				hidden++
				j.warn(ModeHidden, c.dc, where, "the opaque config has a key %q, which nothing reads", key)
			}
		}
	}
	for _, e := range c.facts.Entries {
		where := e.GetKind() + "/" + e.GetName()
		look(where, e.GetProxyDefaults().GetMeshGateway())
		for key, value := range keysOf(e.GetProxyDefaults().GetConfigJson()) {
			read = read || isOpaqueMode(key)
			if isOpaqueMode(key) && len(value) > 0 && value[0] == '"' {
				invalid++
				j.fail(ModeInvalid, c.dc, where+" (Config)", "%s is the text %s, where Consul's agents want a map: they merge no entry into their proxies any more", key, value).Fix =
					"write MeshGateway { Mode = … } beside Config, and take the key out of it"
			}
		}
		defaults := e.GetServiceDefaults()
		look(where, defaults.GetMeshGateway())
		look(where+" (UpstreamConfig.Defaults)", defaults.GetUpstreamDefaults().GetMeshGateway())
		for _, o := range defaults.GetUpstreamOverrides() {
			look(fmt.Sprintf("%s (UpstreamConfig.Overrides of %s)", where, o.GetName()), o.GetMeshGateway())
		}
	}
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			where := n.Node.GetName() + "/" + i.GetId()
			own := func(m *isthmusv1.MeshGateway) bool { return !n.Agent || !written[m.GetMode()] }
			if own(i.GetProxy().GetMeshGateway()) {
				look(where, i.GetProxy().GetMeshGateway())
			}
			if !n.Agent || !read {
				opaque(where, i.GetProxy().GetConfigJson())
			}
			for _, u := range i.GetProxy().GetUpstreams() {
				at := where + " (upstream " + u.GetDestinationName() + ")"
				if own(u.GetMeshGateway()) {
					look(at, u.GetMeshGateway())
				}
				if !n.Agent || !read {
					opaque(at, u.GetConfigJson())
				}
			}
		}
	}
	for _, f := range j.facts.Extra {
		if f.Code == ModeHidden && strings.EqualFold(f.Datacenter, c.dc) {
			hidden++
		}
	}
	if invalid == 0 {
		j.pass(ModeInvalid, c.dc, "modes", "all are none, local or remote, or left out")
	}
	if hidden == 0 {
		j.pass(ModeHidden, c.dc, "modes", "none stands where nothing reads it")
	}
}

// isOpaqueMode reports whether a key of an opaque config is that of a mode.
func isOpaqueMode(key string) bool {
	return strings.EqualFold(strings.ReplaceAll(key, "_", ""), "meshgateway")
}
