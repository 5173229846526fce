package check

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// seen is a datacenter's catalog, and who knows it.
type seen struct {
	dc    string
	facts *CatalogFacts
	// known are the datacenters that its own knows.
	known []string
	// self is what its agent says of itself; nil: none was asked, or none tells.
	self *consul.Self
}

// catalogs are one for each datacenter: from its own agent, or else through
// another.
func (j *judge) catalogs() []seen {
	var out []seen
	have := map[string]bool{}
	for _, a := range j.answering {
		if dc := a.datacenter(); !have[dc] && a.Catalog != nil {
			have[dc] = true
			out = append(out, seen{dc: dc, facts: a.Catalog, known: a.Datacenters, self: a.Self})
		}
	}
	through := j.seenThrough()
	for _, dc := range slices.Sorted(maps.Keys(through)) {
		if catalog := through[dc].Through[dc].Catalog; catalog != nil {
			out = append(out, seen{dc: dc, facts: catalog, known: through[dc].Datacenters})
		}
	}
	return out
}

// upstreams calls visit with each upstream of the catalog.
func (c seen) upstreams(visit func(*isthmusv1.Upstream)) {
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			for _, u := range i.GetProxy().GetUpstreams() {
				visit(u)
			}
		}
	}
}

// catalog judges what is registered and written.
func (j *judge) catalog(c seen) {
	if c.facts.Err != nil {
		j.fail(Catalog, c.dc, "catalog", "cannot be read: %v", c.facts.Err)
		return
	}
	if c.facts.Partial != "" {
		// Why is a finding of its own: a token, a right.
		j.warn(Catalog, c.dc, "catalog", "a part of it may be hidden, and what is hidden is not judged: %s", c.facts.Partial)
	} else {
		j.pass(Catalog, c.dc, "catalog", "%s, %s", count(len(c.facts.Nodes), "node"), count(len(c.facts.Entries), "config entry"))
	}
	j.gateways(c)
	j.gatewayNames(c)
	j.modes(c)
	j.serviceCase(c)
	j.datacenterCase(c)
}

// gateways judges whether there are mesh gateways, and whether they are well.
func (j *judge) gateways(c seen) {
	var all, unwell, unchecked []string
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			if i.GetKind() != isthmusv1.InstanceKindMeshGateway {
				continue
			}
			name := n.Node.GetName() + "/" + i.GetId()
			all = append(all, name)
			if health, _ := isthmusv1.InstanceHealth(n.Node, i, false); health != isthmusv1.Health_HEALTH_HEALTHY {
				unwell = append(unwell, name)
			} else if len(i.GetChecks()) == 0 {
				unchecked = append(unchecked, name)
			}
		}
	}
	switch {
	case len(all) == 0 && c.facts.Partial != "":
		j.warn(Gateways, c.dc, "mesh gateways", "not judged: none is shown, and a part of the catalog may be hidden").Fix = Catalog.fix()
		return
	case len(all) == 0:
		j.warn(Gateways, c.dc, "mesh gateways", "there is none: upstreams in mode local or remote have no path")
		return
	}
	j.pass(Gateways, c.dc, "mesh gateways", "%s: %s", count(len(all), "mesh gateway"), some(all))
	for _, name := range unwell {
		// Traffic goes to the others, while there are some.
		if len(unwell) < len(all) {
			j.warn(GatewayHealth, c.dc, name, "a check of it is critical: it gets no traffic")
		} else {
			j.fail(GatewayHealth, c.dc, name, "a check of it is critical, as of all gateways of %s: there is no path through them", c.dc)
		}
	}
	for _, name := range unchecked {
		j.warn(GatewayHealth, c.dc, name, "it has no check of its own: nobody notices when it is gone")
	}
	if well := len(all) - len(unwell) - len(unchecked); well > 0 {
		j.pass(GatewayHealth, c.dc, "mesh gateways", "%d of %d pass their checks", well, len(all))
	}
}

// gatewayNames judges whether the datacenter has names that only Consul's own mesh
// gateways pass on: of services behind terminating gateways, and of peers.
func (j *judge) gatewayNames(c seen) {
	var found []string
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			if i.GetKind() == isthmusv1.InstanceKindTerminatingGateway {
				found = append(found, "terminating gateway "+n.Node.GetName()+"/"+i.GetId())
			}
		}
	}
	for _, e := range c.facts.Entries {
		for _, s := range e.GetExportedServices().GetServices() {
			if slices.ContainsFunc(s.GetConsumers(), func(c *isthmusv1.ServiceConsumer) bool { return c.GetPeer() != "" }) {
				found = append(found, s.GetName()+" exported to a peer")
			}
		}
	}
	if len(found) == 0 {
		j.pass(GatewayNames, c.dc, "mesh gateways", "no service is behind a terminating gateway, or exported to a peer")
		return
	}
	j.warn(GatewayNames, c.dc, "mesh gateways", "only Consul's own mesh gateways pass on the names of %s", some(found))
}

// spellings are names in all the ways that they are written, by their lower case.
type spellings map[string]map[string]bool

func (s spellings) add(name string) {
	if name == "" {
		return
	}
	key := strings.ToLower(name)
	if s[key] == nil {
		s[key] = map[string]bool{}
	}
	s[key][name] = true
}

// ways are the ways in which a name is written, sorted.
func (s spellings) ways(key string) []string { return slices.Sorted(maps.Keys(s[key])) }

// serviceCase judges services that differ by case alone. The registered spellings
// decide: their certificates bear them.
func (j *judge) serviceCase(c seen) {
	registered, meant := spellings{}, spellings{}
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			registered.add(i.GetName())
			meant.add(i.GetProxy().GetDestinationServiceName())
		}
	}
	for _, from := range j.catalogs() {
		from.upstreams(func(u *isthmusv1.Upstream) {
			if strings.EqualFold(cmp.Or(u.GetDatacenter(), from.dc), c.dc) {
				meant.add(u.GetDestinationName())
			}
		})
	}
	clean := true
	for _, key := range slices.Sorted(maps.Keys(registered)) {
		ways := registered.ways(key)
		if len(ways) > 1 {
			clean = false
			j.fail(ServiceCase, c.dc, key, "registered as %s: one service to look-ups and names on the wire, several to certificates", strings.Join(ways, " and "))
			continue
		}
		for _, other := range meant.ways(key) {
			if other != ways[0] {
				clean = false
				j.warn(ServiceCase, c.dc, key, "registered as %s, and meant as %s by a proxy", ways[0], other)
			}
		}
	}
	if clean {
		j.pass(ServiceCase, c.dc, "services", "no two differ by case alone")
	}
}

// datacenterCase judges how datacenters are spelled.
func (j *judge) datacenterCase(c seen) {
	known := spellings{}
	for _, name := range c.known {
		known.add(name)
	}
	clean := true
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if ways := known.ways(key); len(ways) > 1 {
			clean = false
			j.fail(DatacenterCase, c.dc, key, "known as %s: which one is meant?", strings.Join(ways, " and "))
		}
	}
	for _, n := range c.facts.Nodes {
		for _, i := range n.Instances {
			for _, u := range i.GetProxy().GetUpstreams() {
				dc := u.GetDatacenter()
				if _, ok := known[strings.ToLower(dc)]; ok && !known[strings.ToLower(dc)][dc] {
					clean = false
					j.warn(DatacenterCase, c.dc, n.Node.GetName()+"/"+i.GetId(), "its upstream %s is in %q, which Consul knows as %q", u.GetDestinationName(), dc, known.ways(strings.ToLower(dc))[0])
				}
			}
		}
	}
	if clean {
		j.pass(DatacenterCase, c.dc, "datacenters", "spelled in one way")
	}
}
