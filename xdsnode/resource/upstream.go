package resource

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Upstream is what one route of a proxy comes to, wherever the proxy listens for it.
type Upstream struct {
	// Clusters of all its targets, and of those that lead on to several.
	Clusters []*UpstreamCluster
	// Routes is its route configuration; nil when the listener needs none, or holds it.
	Routes   *Resource
	Problems []*isthmusv1.Problem

	outbound *Outbound
	route    *isthmusv1.Route
	// cluster is where all connections go, where no route configuration chooses.
	cluster string
	// custom is the listener that somebody wrote; empty: ours.
	custom string
}

// UpstreamCluster is a cluster, and where its endpoints come from.
type UpstreamCluster struct {
	*Resource
	// Assignment is the name under which its Envoy asks for endpoints; empty when it does
	// not. Target is the one whose endpoints these are.
	Assignment string
	Target     *isthmusv1.Target
}

// Sets gives the endpoint sets of references; nil for one that is not there.
type Sets func(*isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet

// Upstreams makes what the routes of a set come to, in their order. Of endpoint sets,
// only those with host names are looked at: they stand in their clusters.
func Upstreams(set *isthmusv1.RouteSet, o *Outbound, sets Sets) []*Upstream {
	names := clusterNames(set.GetRoutes())
	out := make([]*Upstream, len(set.GetRoutes()))
	for i, route := range set.GetRoutes() {
		b := &upstreamBuilder{
			Upstream: &Upstream{outbound: o, route: route, Problems: problemsOf(tlsProblem("Outgoing", o.tls))},
			names:    names[route.GetId()], sets: sets,
		}
		b.build()
		out[i] = b.Upstream
	}
	return out
}

func problemsOf(p *isthmusv1.Problem) []*isthmusv1.Problem {
	if p == nil {
		return nil
	}
	return []*isthmusv1.Problem{p}
}

// clusterNames are the names of the targets' clusters, by route and target: Consul's,
// which are server names. A mode, a timeout or a limit never renames a cluster (Consul
// puts a hash of them before it, so that a change drains the listener). Where several
// routes lead to one target, which each may reach in its own way, the one that is named
// for it has the name, else the first; the others' begin with a hash of the route.
func clusterNames(routes []*isthmusv1.Route) map[string]map[string]string {
	owners := map[string]*isthmusv1.Route{}
	for _, r := range routes {
		for _, t := range r.GetTargets() {
			name := targetName(t)
			if before := owners[name]; before == nil || namedFor(r, t) && !namedFor(before, t) {
				owners[name] = r
			}
		}
	}
	out := map[string]map[string]string{}
	for _, r := range routes {
		out[r.GetId()] = map[string]string{}
		for _, t := range r.GetTargets() {
			name := targetName(t)
			if owners[name] != r {
				sum := sha256.Sum256([]byte(r.GetId()))
				name = hex.EncodeToString(sum[:4]) + "~" + name
			}
			out[r.GetId()][t.GetId()] = name
		}
	}
	return out
}

// namedFor reports whether a target is what a route's upstream names.
func namedFor(r *isthmusv1.Route, t *isthmusv1.Target) bool {
	return strings.EqualFold(r.GetDestination().GetName(), t.GetService().GetName()) &&
		r.GetDestination().GetNamespace() == t.GetService().GetNamespace() &&
		r.GetDestination().GetPartition() == t.GetService().GetPartition() &&
		r.GetDatacenter() == t.GetDatacenter()
}

// targetName is the server name of a target in the mesh, also where it is asked for by
// another.
func targetName(t *isthmusv1.Target) string {
	if !t.GetExternal() {
		return t.GetSni()
	}
	trustDomain := ""
	for _, id := range t.GetSpiffeIds() {
		trustDomain, _, _ = strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/")
	}
	return isthmusv1.SNI(t.GetService(), t.GetSubset(), t.GetDatacenter(), trustDomain)
}

// upstreamBuilder makes an [Upstream].
type upstreamBuilder struct {
	*Upstream
	// names are those of the targets' clusters.
	names map[string]string
	sets  Sets
	// leads is where each resolver of the chain leads.
	leads map[string]string
}

func (b *upstreamBuilder) build() {
	chain := b.route.GetChain()
	b.leads = map[string]string{}
	for _, node := range chain.GetNodes() {
		if r := node.GetResolver(); r != nil {
			b.leads[node.GetName()] = b.resolver(r)
		}
	}
	b.cluster = b.leads[chain.GetStart()]
	if isHTTP(b.route.GetProtocol()) && !chain.GetIsDefault() {
		routes := routeConfiguration(b.name(), b.route, func(node string) string { return b.leads[node] })
		if b.outbound.validateClusters {
			routes.ValidateClusters = wrapperspb.Bool(true)
		}
		b.Routes = pack(routes)
	}
	b.hatches()
}

// name is what listener and routes of the upstream are called: SERVICE, or
// SERVICE?dc=DATACENTER where the registration says one (Consul structs.Upstream, Identifier).
func (u *Upstream) name() string {
	name := u.route.GetDestination().GetName()
	if u.query() {
		name = "prepared_query:" + name
	}
	if ns := u.route.GetDestination().GetNamespace(); ns != "" && ns != "default" {
		name = ns + "/" + name
	}
	id, number, twice := strings.Cut(u.route.GetId(), "#")
	if strings.Contains(id, "@") {
		name += "?dc=" + u.route.GetDatacenter()
	}
	if twice {
		// Two that differ in their settings; Consul takes only one.
		name += "#" + number
	}
	return name
}

func (u *Upstream) query() bool { return u.route.GetDestinationType() == preparedQuery }

// preparedQuery is the type of a destination that is one.
const preparedQuery = "prepared_query"

// resolver makes the clusters of a resolver, and returns the name of the one that leads
// to all of them.
func (b *upstreamBuilder) resolver(r *isthmusv1.ChainResolver) string {
	ids := append([]string{r.GetTarget()}, r.GetFailover()...)
	base := b.names[r.GetTarget()]
	if base == "" {
		return ""
	}
	if len(ids) == 1 {
		b.target(base, r, r.GetTarget())
		return base
	}
	members := make([]string, len(ids))
	for i, id := range ids {
		members[i] = failoverName(i, base)
		b.target(members[i], r, id)
	}
	b.Clusters = append(b.Clusters, &UpstreamCluster{Resource: pack(aggregateCluster(base, r, members))})
	return base
}

func (b *upstreamBuilder) target(name string, r *isthmusv1.ChainResolver, id string) {
	i := slices.IndexFunc(b.route.GetTargets(), func(t *isthmusv1.Target) bool { return t.GetId() == id })
	if i < 0 {
		return // A chain leads to its own targets only.
	}
	t := b.route.GetTargets()[i]
	c, problem := targetCluster(name, b.route, r, t, b.outbound, b.sets)
	b.Problems = append(b.Problems, problemsOf(problem)...)
	out := &UpstreamCluster{Resource: pack(c), Target: t}
	if c.GetEdsClusterConfig() != nil {
		out.Assignment = name
	}
	b.Clusters = append(b.Clusters, out)
}

// hatches takes what somebody wrote in place of what is made here. It is for upstreams
// that no config entry leads elsewhere; else it is stated, as Consul warns.
func (b *upstreamBuilder) hatches() {
	config := b.route.GetConfig()
	if config.GetEnvoyClusterJson() == "" && config.GetEnvoyListenerJson() == "" {
		return
	}
	if !b.route.GetChain().GetIsDefault() {
		b.Problems = append(b.Problems, &isthmusv1.Problem{
			Code: CodeInvalidSetting, Severity: isthmusv1.Severity_SEVERITY_WARNING,
			Text: "envoy_listener_json and envoy_cluster_json of upstream " + b.route.GetId() + " are left out: config entries shape its discovery chain",
		})
		return
	}
	b.custom = config.GetEnvoyListenerJson()
	if config.GetEnvoyClusterJson() != "" && len(b.Clusters) == 1 {
		b.customCluster(config.GetEnvoyClusterJson())
	}
}

// customCluster is somebody's own, with the TLS of ours.
func (b *upstreamBuilder) customCluster(text string) {
	c, err := readCluster(text)
	if err != nil {
		b.Problems = append(b.Problems, invalidSetting("envoy_cluster_json of upstream "+b.route.GetId(), err))
		return
	}
	ours := b.Clusters[0]
	c.TransportSocket = upstreamTLS(ours.Target.GetSni(), ours.Target.GetSpiffeIds(), b.outbound.tls)
	ours.Resource = pack(c)
	ours.Assignment = ""
	if e := c.GetEdsClusterConfig(); e != nil {
		ours.Assignment = cmp.Or(e.GetServiceName(), c.GetName())
	}
}
