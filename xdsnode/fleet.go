package xdsnode

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// fleet is the mesh gateways whose settings come to the same clusters: they share these
// and their endpoints.
type fleet struct {
	key      string
	settings *isthmusv1.GatewaySettings
	members  map[isthmusv1.Key]*Proxy
	// made is what each name or wildcard comes to, and owners are those of each cluster:
	// of several, as a service v1.api and a subset v1 of api, the first by its key has it.
	made   map[isthmusv1.Key]made
	owners map[string]map[isthmusv1.Key]bool
	table  table
}

// fleetKey is equal for settings that come to the same clusters: everything but where a
// gateway listens.
func fleetKey(s *isthmusv1.GatewaySettings) (string, *isthmusv1.GatewaySettings) {
	shared := proto.CloneOf(s)
	if shared == nil {
		shared = &isthmusv1.GatewaySettings{}
	}
	shared.Binds = nil
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(shared)
	if err != nil {
		panic("xdsnode: settings that came by the log cannot be marshalled: " + err.Error())
	}
	return string(key), shared
}

// fleetOf is the fleet for settings; a new one is filled with all names.
func (m *Machine) fleetOf(s *isthmusv1.GatewaySettings) *fleet {
	key, settings := fleetKey(s)
	if f := m.fleets[key]; f != nil {
		return f
	}
	f := &fleet{
		key: key, settings: settings, members: map[isthmusv1.Key]*Proxy{}, made: map[isthmusv1.Key]made{}, owners: map[string]map[isthmusv1.Key]bool{},
	}
	all := map[isthmusv1.Key]bool{}
	for k := range m.values {
		if k.Kind == isthmusv1.KindName || k.Kind == isthmusv1.KindWildcard {
			all[k] = true
		}
	}
	f.update(m, all)
	m.fleets[key] = f
	return f
}

// update makes the clusters and assignments of names and wildcards anew.
func (f *fleet) update(m *Machine, routes map[isthmusv1.Key]bool) []Change {
	names := map[string]bool{}
	for key := range routes {
		before, now := f.made[key], f.make(m, key)
		if name := before.name(); name != "" {
			names[name] = true
			if delete(f.owners[name], key); len(f.owners[name]) == 0 {
				delete(f.owners, name)
			}
		}
		delete(f.made, key)
		if name := now.name(); name != "" {
			names[name] = true
			f.made[key] = now
			if f.owners[name] == nil {
				f.owners[name] = map[isthmusv1.Key]bool{}
			}
			f.owners[name][key] = true
		}
	}
	changed := map[resource.Type]map[string]bool{resource.Cluster: {}, resource.Assignment: {}}
	for name := range names {
		var owner made
		if keys := f.owners[name]; len(keys) > 0 {
			owner = f.made[slices.MinFunc(slices.Collect(maps.Keys(keys)), isthmusv1.Key.Compare)]
		}
		for _, t := range []resource.Type{resource.Cluster, resource.Assignment} {
			f.put(t, name, owner[t], changed)
		}
	}
	var out []Change
	for _, t := range []resource.Type{resource.Cluster, resource.Assignment} {
		if len(changed[t]) > 0 {
			out = append(out, Change{Proxies: f.proxies(), Type: t, Names: slices.Sorted(maps.Keys(changed[t]))})
		}
	}
	return out
}

// put sets a resource, nil for none, and notes it when that changes anything.
func (f *fleet) put(t resource.Type, name string, r *resource.Resource, changed map[resource.Type]map[string]bool) {
	before := f.table.of(t)[name]
	if r == nil && before == nil || r != nil && before != nil && r.Version == before.Version {
		return
	}
	f.table.put(t, name, r)
	changed[t][name] = true
}

// made is the cluster of a name, and its assignment where it waits for one.
type made map[resource.Type]*resource.Resource

func (d made) name() string {
	if c := d[resource.Cluster]; c != nil {
		return c.Name
	}
	return ""
}

// make makes what a name or wildcard comes to; nil when it is not there.
func (f *fleet) make(m *Machine, key isthmusv1.Key) made {
	value := m.values[key]
	set := m.endpoints(endpointsOf(value))
	hosts := set
	if !resource.HasHostname(set) {
		hosts = nil
	}
	out := made{}
	switch v := value.(type) {
	case *isthmusv1.NameRoute:
		out[resource.Cluster] = resource.NameCluster(v, f.settings, hosts)
	case *isthmusv1.WildcardRoute:
		out[resource.Cluster] = resource.RemoteCluster(v, f.settings, hosts)
	default:
		return nil
	}
	if hosts == nil {
		out[resource.Assignment] = resource.EndpointsOf(out.name(), set)
	}
	return out
}

// proxies are the members, sorted.
func (f *fleet) proxies() []*Proxy {
	return slices.SortedFunc(maps.Values(f.members), func(a, b *Proxy) int { return a.key.Compare(b.key) })
}
