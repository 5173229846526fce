package resolver

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// defaultConnectTimeout is Consul's, where neither the upstream nor a
// service-resolver sets one (reference 2.3).
const defaultConnectTimeout = 5 * time.Second

// resolverNode makes the last node of a chain: a target, and those that it
// fails over to.
func (c *compiler) resolverNode(p place) string {
	p = c.follow(p)
	name := "resolver:" + p.id()
	if c.nodes[name] != nil {
		return name
	}
	_, entry := c.resolver(p.service)
	c.shaped = c.shaped || entry != nil
	c.places[p.id()] = p
	node := &isthmusv1.ChainResolver{
		Target:           p.id(),
		ConnectTimeout:   c.connectTimeout(entry),
		RequestTimeout:   entry.GetRequestTimeout(),
		LoadBalancerJson: entry.GetLoadBalancerJson(),
	}
	c.nodes[name] = &isthmusv1.ChainNode{Name: name, Node: &isthmusv1.ChainNode_Resolver{Resolver: node}}
	c.failover(p, entry, node)
	if entry.GetPrioritizeByLocality() != "" {
		c.stateAt(p, unsupported("service-resolver/%s prioritizes by locality, which is not supported", p.service.Qualified()))
	}
	return name
}

// resolver is the service-resolver of a service.
func (v *view) resolver(ref *isthmusv1.ServiceRef) (*value, *isthmusv1.ServiceResolver) {
	found, e := v.serviceEntry(kindServiceResolver, ref)
	return found, e.GetServiceResolver()
}

// follow applies redirects, then the default subset, until neither leads on.
// Every service on the way has a part in the chain, and is held to its protocol.
func (c *compiler) follow(p place) place {
	seen := map[string]bool{p.id(): true}
	for {
		c.recordProtocol(p.service)
		_, entry := c.resolver(p.service)
		c.shaped = c.shaped || entry != nil
		next := c.redirected(p, entry)
		if next.id() == p.id() && p.subset == "" {
			next.subset = entry.GetDefaultSubset()
		}
		if next.id() == p.id() {
			return p
		}
		if seen[next.id()] {
			c.stateAt(p, problemError(CodeRedirectLoop, "break the circle of redirects",
				"service-resolver/%s redirects to %s, which leads back to it; the redirect is left out",
				p.service.Qualified(), next.id()))
			return p
		}
		seen[next.id()] = true
		p = next
	}
}

func (c *compiler) redirected(p place, entry *isthmusv1.ServiceResolver) place {
	r := entry.GetRedirect()
	switch {
	case r == nil:
		return p
	case r.GetPeer() != "" || r.GetSamenessGroup() != "":
		c.stateAt(p, unsupported("service-resolver/%s redirects to a peer or sameness group, which is not supported; "+
			"the redirect is left out", p.service.Qualified()))
		return p
	}
	return p.to(elsewhere{
		service: r.GetService(), subset: r.GetServiceSubset(), namespace: r.GetNamespace(),
		partition: r.GetPartition(), datacenter: r.GetDatacenter(),
	})
}

func (c *compiler) connectTimeout(entry *isthmusv1.ServiceResolver) *durationpb.Duration {
	switch {
	case c.timeout != nil:
		return c.timeout
	case entry.GetConnectTimeout().AsDuration() > 0:
		return entry.GetConnectTimeout()
	}
	return durationpb.New(defaultConnectTimeout)
}

// failover lists the targets that take over when a target has no live endpoint.
// They have redirects and default subsets of their own, but no failover.
func (c *compiler) failover(p place, entry *isthmusv1.ServiceResolver, node *isthmusv1.ChainResolver) {
	f := findFailover(entry, p.subset)
	if f == nil {
		return
	}
	if f.GetSamenessGroup() != "" {
		c.stateAt(p, unsupported("service-resolver/%s fails over to a sameness group, which is not supported", p.service.Qualified()))
	}
	node.FailoverPolicy = f.GetPolicy()
	if node.FailoverPolicy == nil {
		pd, _ := c.proxyDefaults(p.service.GetPartition())
		node.FailoverPolicy = pd.GetFailoverPolicy()
	}
	if node.GetFailoverPolicy().GetMode() == "order-by-locality" {
		c.stateAt(p, unsupported("failover of %s by locality is not supported; the order is that of the entry", p.service.Qualified()))
	}
	for _, e := range c.alternatives(p, f) {
		next := p.to(e)
		if next.id() == p.id() {
			continue
		}
		next = c.follow(next)
		if next.id() == p.id() || slices.Contains(node.GetFailover(), next.id()) {
			continue
		}
		c.places[next.id()] = next
		node.Failover = append(node.Failover, next.id())
	}
}

// findFailover is the failover of a subset, else that of all.
func findFailover(entry *isthmusv1.ServiceResolver, subset string) *isthmusv1.ServiceFailover {
	var all *isthmusv1.ServiceFailover
	for _, f := range entry.GetFailover() {
		switch {
		case f.GetSubset() == "*":
			all = f
		case strings.EqualFold(f.GetSubset(), subset):
			return f
		}
	}
	return all
}

// alternatives are where a failover leads, in order.
func (c *compiler) alternatives(p place, f *isthmusv1.ServiceFailover) []elsewhere {
	base := elsewhere{service: f.GetService(), subset: f.GetServiceSubset(), namespace: f.GetNamespace()}
	var out []elsewhere
	for _, dc := range f.GetDatacenters() {
		e := base
		e.datacenter = dc
		out = append(out, e)
	}
	if len(out) > 0 {
		return out
	}
	for _, t := range f.GetTargets() {
		if t.GetPeer() != "" {
			c.stateAt(p, unsupported("%s fails over to peer %s: peering is not supported", p.service.Qualified(), t.GetPeer()))
			continue
		}
		out = append(out, elsewhere{
			service: t.GetService(), subset: t.GetServiceSubset(), namespace: t.GetNamespace(),
			partition: t.GetPartition(), datacenter: t.GetDatacenter(),
		})
	}
	if len(f.GetTargets()) == 0 && base != (elsewhere{}) {
		out = append(out, base)
	}
	return out
}

// addProblem keeps a problem once.
func addProblem(list []*isthmusv1.Problem, p *isthmusv1.Problem) []*isthmusv1.Problem {
	if slices.ContainsFunc(list, func(o *isthmusv1.Problem) bool { return proto.Equal(o, p) }) {
		return list
	}
	return append(list, p)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// subsetOf finds a subset of a service by name, the exact spelling first.
func subsetOf(entry *isthmusv1.ServiceResolver, name string) *isthmusv1.ServiceSubset {
	var found *isthmusv1.ServiceSubset
	for _, s := range entry.GetSubsets() {
		if s.GetName() == name {
			return s
		}
		if found == nil && strings.EqualFold(s.GetName(), name) {
			found = s
		}
	}
	return found
}

// subsetName is how a subset is spelled where it is defined.
func subsetName(entry *isthmusv1.ServiceResolver, name string) string {
	return cmp.Or(subsetOf(entry, name).GetName(), name)
}
