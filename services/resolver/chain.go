package resolver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// compiler makes the discovery chain of one upstream: router, then splitter,
// then resolver. All entries are read in the own datacenter, wherever the
// traffic goes.
type compiler struct {
	*view
	// destination of the upstream; its protocol is what the others' must be.
	destination *isthmusv1.ServiceRef
	protocol    string
	// chosen: the upstream chose the protocol, whatever the services speak.
	chosen bool
	// timeout is the upstream's own connect timeout, which beats a resolver's.
	timeout *durationpb.Duration

	nodes    map[string]*isthmusv1.ChainNode
	places   map[string]place
	shaped   bool
	problems []*isthmusv1.Problem
	// byPlace are problems that belong to one target.
	byPlace map[string][]*isthmusv1.Problem
}

// compile makes the chain of a destination. protocol is the upstream's own
// choice, or empty.
func (v *view) compile(destination place, protocol string, timeout *durationpb.Duration) (*compiler, *isthmusv1.Chain) {
	c := &compiler{
		view:        v,
		destination: destination.service,
		protocol:    cmp.Or(protocol, v.protocol(destination.service)),
		chosen:      protocol != "",
		timeout:     timeout,
		nodes:       map[string]*isthmusv1.ChainNode{},
		places:      map[string]place{},
		byPlace:     map[string][]*isthmusv1.Problem{},
	}
	chain := &isthmusv1.Chain{Start: c.start(destination)}
	for _, name := range sortedKeys(c.nodes) {
		chain.Nodes = append(chain.Nodes, c.nodes[name])
	}
	chain.IsDefault = !c.shaped
	return c, chain
}

func (c *compiler) state(p *isthmusv1.Problem) { c.problems = addProblem(c.problems, p) }

func (c *compiler) stateAt(at place, p *isthmusv1.Problem) {
	c.byPlace[at.id()] = addProblem(c.byPlace[at.id()], p)
}

func isHTTP(protocol string) bool {
	return protocol == "http" || protocol == "http2" || protocol == "grpc"
}

func (c *compiler) start(destination place) string {
	if c.router(destination.service) != nil && c.mayRoute(kindServiceRouter, destination.service) {
		return c.routerNode(destination)
	}
	return c.splitterOrResolver(destination)
}

// mayRoute reports whether the protocol allows a router or splitter, and states
// the problem when it does not: the entry is then left out.
func (c *compiler) mayRoute(kind string, ref *isthmusv1.ServiceRef) bool {
	if isHTTP(c.protocol) {
		return true
	}
	text := fmt.Sprintf("%s/%s is left out: the protocol is %s, and only http, http2 and grpc are routed or split",
		kind, ref.Qualified(), c.protocol)
	if c.chosen {
		c.state(problemWarning(CodeProtocolNotHTTP, "", "%s", text))
	} else {
		c.state(problemError(CodeProtocolNotHTTP, "set the protocol of "+ref.GetName()+" to http, http2 or grpc", "%s", text))
	}
	return false
}

// routerNode makes the router of a service, with a last route that takes all.
func (c *compiler) routerNode(own place) string {
	name := "router:" + own.service.Qualified()
	c.shaped = true
	node := &isthmusv1.ChainRouter{}
	for i, r := range c.router(own.service).GetRoutes() {
		c.stateMatch(own.service, i+1, r.GetMatch())
		node.Routes = append(node.Routes, &isthmusv1.ChainRoute{
			Match:       r.GetMatch(),
			Destination: r.GetDestination(),
			Next:        c.routeNext(own, r.GetDestination()),
		})
	}
	node.Routes = append(node.Routes, &isthmusv1.ChainRoute{Next: c.splitterOrResolver(own)})
	c.nodes[name] = &isthmusv1.ChainNode{Name: name, Node: &isthmusv1.ChainNode_Router{Router: node}}
	return name
}

func (c *compiler) routeNext(own place, d *isthmusv1.ServiceRouteDestination) string {
	next := own.to(elsewhere{
		service: d.GetService(), subset: d.GetServiceSubset(),
		namespace: d.GetNamespace(), partition: d.GetPartition(),
	})
	if d.GetServiceSubset() != "" {
		return c.resolverNode(next)
	}
	return c.splitterOrResolver(next)
}

// splitterOrResolver leads to the service's splitter, or, where it has none, to
// its resolver.
func (c *compiler) splitterOrResolver(p place) string {
	if c.splitter(p.service) == nil || !c.mayRoute(kindServiceSplitter, p.service) {
		return c.resolverNode(p)
	}
	name := "splitter:" + p.service.Qualified()
	if c.nodes[name] == nil {
		c.shaped = true
		c.recordProtocol(p.service)
		splits := c.splits(p, nil)
		c.nodes[name] = &isthmusv1.ChainNode{Name: name, Node: &isthmusv1.ChainNode_Splitter{
			Splitter: &isthmusv1.ChainSplitter{Splits: splits},
		}}
	}
	return name
}

// splits lists the parts of a splitter. A part that leads to another service
// with a splitter is replaced by that one's parts, so that all lead to resolvers.
func (c *compiler) splits(p place, above []string) []*isthmusv1.ChainSplit {
	name := p.service.Qualified()
	above = append(slices.Clone(above), name)
	var out []*isthmusv1.ChainSplit
	for _, s := range c.splitter(p.service).GetSplits() {
		split := &isthmusv1.ChainSplit{
			Weight: s.GetWeight(), RequestHeaders: s.GetRequestHeaders(), ResponseHeaders: s.GetResponseHeaders(),
		}
		next := p.to(elsewhere{
			service: s.GetService(), subset: s.GetServiceSubset(),
			namespace: s.GetNamespace(), partition: s.GetPartition(),
		})
		if c.splitsFurther(next, name, s.GetServiceSubset(), above) {
			c.recordProtocol(next.service)
			out = append(out, within(split, c.splits(next, above))...)
			continue
		}
		split.Next = c.resolverNode(next)
		out = append(out, split)
	}
	return out
}

func (c *compiler) splitsFurther(next place, own, subset string, above []string) bool {
	name := next.service.Qualified()
	if subset != "" || name == own || c.splitter(next.service) == nil {
		return false
	}
	if slices.Contains(above, name) {
		c.state(problemError(CodeSplitLoop, "split to a subset, or to a service without a splitter",
			"service-splitter/%s splits to %s, which splits back to it; it leads to the instances of %s",
			own, name, name))
		return false
	}
	return true
}

// within gives the parts of an inner splitter the share of an outer part, with
// the headers of both.
func within(outer *isthmusv1.ChainSplit, inner []*isthmusv1.ChainSplit) []*isthmusv1.ChainSplit {
	out := make([]*isthmusv1.ChainSplit, 0, len(inner))
	for _, s := range inner {
		share := (uint64(outer.GetWeight())*uint64(s.GetWeight()) + allWeight/2) / allWeight
		out = append(out, &isthmusv1.ChainSplit{
			Weight:          uint32(min(share, allWeight)),
			Next:            s.GetNext(),
			RequestHeaders:  bothHeaders(outer.GetRequestHeaders(), s.GetRequestHeaders()),
			ResponseHeaders: bothHeaders(outer.GetResponseHeaders(), s.GetResponseHeaders()),
		})
	}
	return out
}

// allWeight is the whole, in hundredths of a percent.
const allWeight = 10_000

// bothHeaders applies the outer modifiers, then the inner ones.
func bothHeaders(outer, inner *isthmusv1.HeaderModifiers) *isthmusv1.HeaderModifiers {
	switch {
	case outer == nil:
		return inner
	case inner == nil:
		return outer
	}
	return &isthmusv1.HeaderModifiers{
		Add:    headerPairs(outer.GetAdd(), inner.GetAdd()),
		Set:    headerPairs(outer.GetSet(), inner.GetSet()),
		Remove: slices.Compact(slices.Sorted(slices.Values(slices.Concat(outer.GetRemove(), inner.GetRemove())))),
	}
}

// headerPairs joins two sorted lists; of one name, the inner pair stays.
func headerPairs(outer, inner []*isthmusv1.HeaderPair) []*isthmusv1.HeaderPair {
	out := slices.Clone(inner)
	for _, p := range outer {
		if !slices.ContainsFunc(inner, func(q *isthmusv1.HeaderPair) bool { return strings.EqualFold(q.GetName(), p.GetName()) }) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *isthmusv1.HeaderPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out
}

// protocol of a service by its service-defaults, else proxy-defaults, else tcp.
func (v *view) protocol(ref *isthmusv1.ServiceRef) string {
	_, config := v.proxyDefaults(ref.GetPartition())
	return strings.ToLower(cmp.Or(v.serviceDefaults(ref).GetProtocol(), config.text("protocol"), "tcp"))
}

// recordProtocol states when a service of the chain speaks another protocol than
// the upstream's destination.
func (c *compiler) recordProtocol(ref *isthmusv1.ServiceRef) {
	first, other := c.view.protocol(c.destination), c.view.protocol(ref)
	if first != other {
		c.state(problemError(CodeMixedProtocols, "give all services of the chain one protocol in their service-defaults",
			"the chain has several protocols: %s is %s, but %s is %s",
			c.destination.Qualified(), first, ref.Qualified(), other))
	}
}
