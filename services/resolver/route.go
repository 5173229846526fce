package resolver

import (
	"cmp"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// useRouteSet refers to the route set of a source, which is made as long as a
// proxy has this source.
func (v *view) useRouteSet(s *source) {
	key := isthmusv1.RouteSetKey(s.service, s.hash)
	u := v.machine.routeSets[key]
	if u == nil {
		u = &unit{rank: rankRouteSet, job: &routeSetJob{key: key, source: s}}
		v.machine.routeSets[key] = u
		v.machine.index.enqueue(u)
	}
	v.use(u)
}

// routeSetJob makes the routes of all proxies with one source.
type routeSetJob struct {
	key    isthmusv1.Key
	source *source
}

func (j *routeSetJob) forget(m *Machine) { delete(m.routeSets, j.key) }

func (j *routeSetJob) make(v *view) {
	set := &isthmusv1.RouteSet{
		Service: v.spelled(v.machine.datacenter, j.source.service),
		Hash:    j.source.hash,
	}
	for _, up := range j.source.upstreams {
		route := v.route(j.source, up)
		for _, t := range route.GetTargets() {
			for _, ref := range t.GetEndpointSets() {
				v.useSet(ref)
			}
			v.useSet(t.GetBackend())
		}
		set.Routes = append(set.Routes, route)
	}
	v.emit(j.key, set)
}

// route makes one upstream's route. Everything that says how an upstream is
// routed comes from here.
func (v *view) route(s *source, su sourceUpstream) *isthmusv1.Route {
	up := su.upstream
	r := &isthmusv1.Route{
		Id:              su.id,
		DestinationType: cmp.Or(strings.ToLower(up.GetDestinationType()), "service"),
		Destination:     s.destination(up),
		Datacenter:      cmp.Or(strings.ToLower(up.GetDatacenter()), v.machine.datacenter),
		Peer:            up.GetDestinationPeer(),
		ConfigJson:      up.GetConfigJson(),
		Config:          upstreamConfig(v.serviceDefaults(s.service), s, up, parseOpaque(up.GetConfigJson())),
	}
	switch {
	case up.GetDestinationName() == "":
		r.Problems = append(r.Problems, problemError(CodeNoDestination, "set destination_name", "an upstream has no destination_name"))
		r.Protocol = "tcp"
	case r.GetPeer() != "":
		r.Problems = append(r.Problems, unsupported("upstream %s is imported from peer %s: peering is not supported", su.id, r.GetPeer()))
		r.Protocol = "tcp"
	case isQuery(up):
		v.queryRoute(r, up)
	default:
		v.serviceRoute(r, s, up)
	}
	return r
}

func (v *view) serviceRoute(r *isthmusv1.Route, s *source, up *isthmusv1.Upstream) {
	timeout := upstreamTimeout(r.GetConfig())
	start := place{service: r.GetDestination(), datacenter: r.GetDatacenter()}
	c, chain := v.compile(start, upstreamProtocol(r.GetConfig()), timeout)
	r.Protocol, r.Chain, r.Problems = c.protocol, chain, append(r.Problems, c.problems...)
	b := &targetBuilder{view: v, source: s, levels: v.sourceLevels(s, up), timeout: timeout}
	for _, id := range sortedKeys(c.places) {
		r.Targets = append(r.Targets, b.target(c.places[id], c.byPlace[id]))
		b.elsewhere = b.elsewhere || !b.isOwn(c.places[id])
	}
	// Where all targets are here the mode acts on nothing.
	if problem := v.pendingProblem(s, up); problem != nil && b.elsewhere {
		r.Problems = addProblem(r.Problems, problem)
	}
}

// queryRoute leads directly to what a prepared query answered, whatever the
// mode: no gateway routes a query's name.
func (v *view) queryRoute(r *isthmusv1.Route, up *isthmusv1.Upstream) {
	name := up.GetDestinationName()
	id := queryType + ":" + strings.ToLower(name) + "." + r.GetDatacenter()
	timeout := upstreamTimeout(r.GetConfig())
	if timeout == nil {
		timeout = durationpb.New(defaultConnectTimeout)
	}
	r.Protocol = cmp.Or(upstreamProtocol(r.GetConfig()), "tcp")
	target := &isthmusv1.Target{
		Id:             id,
		Service:        newRef("", "", name),
		Datacenter:     r.GetDatacenter(),
		Decision:       decide(nil),
		Path:           isthmusv1.Path_PATH_DIRECT,
		Sni:            isthmusv1.QuerySNI(name, r.GetDatacenter(), v.trustDomain()),
		SpiffeIds:      v.queryIdentities(r.GetDatacenter(), name),
		EndpointSets:   []*isthmusv1.EndpointSetRef{v.queryRef(r.GetDatacenter(), name)},
		Problems:       v.queryProblems(r.GetDatacenter(), name),
		ConnectTimeout: timeout,
	}
	if !v.knows(r.GetDatacenter()) {
		target.Path, target.EndpointSets = isthmusv1.Path_PATH_NONE, nil
	}
	r.Targets = []*isthmusv1.Target{target}
	resolver := "resolver:" + id
	r.Chain = &isthmusv1.Chain{
		Start: resolver,
		Nodes: []*isthmusv1.ChainNode{{Name: resolver, Node: &isthmusv1.ChainNode_Resolver{
			Resolver: &isthmusv1.ChainResolver{Target: id, ConnectTimeout: timeout},
		}}},
		IsDefault: true,
	}
}

func (v *view) queryRef(datacenter, name string) *isthmusv1.EndpointSetRef {
	if datacenter == v.machine.datacenter {
		return querySet(datacenter, name, isthmusv1.Scope_SCOPE_LAN)
	}
	return querySet(datacenter, name, isthmusv1.Scope_SCOPE_WAN)
}

// queryIdentities are those of every distinct service that a query answered,
// sorted.
func (v *view) queryIdentities(datacenter, name string) []string {
	var ids []string
	for _, r := range v.query(datacenter, name).GetResults() {
		if ref := v.resultService(datacenter, r); ref.GetName() != "" {
			ids = append(ids, isthmusv1.SPIFFEID(ref, resultDatacenter(datacenter, r), v.trustDomain()))
		}
	}
	return distinct(ids)
}

// resultService is the service that a result stands for: of a proxy, its
// destination.
func (v *view) resultService(datacenter string, r *isthmusv1.PreparedQueryResult) *isthmusv1.ServiceRef {
	if found := v.resultInstance(resultDatacenter(datacenter, r), r); found != nil {
		if ref := destinationOf(found.instance()); ref != nil {
			return ref
		}
	}
	return newRef(r.GetPartition(), r.GetNamespace(), r.GetService())
}

func (v *view) queryProblems(datacenter, name string) []*isthmusv1.Problem {
	switch {
	case !v.knows(datacenter):
		return []*isthmusv1.Problem{problemError(CodeUnknownDatacenter, "correct the name, or join the datacenter",
			"no path: datacenter %s is not known", datacenter)}
	case v.query(datacenter, name) == nil:
		return []*isthmusv1.Problem{problemError(CodeUnknownQuery, "create the prepared query "+name,
			"%s has no prepared query %s", datacenter, name)}
	case v.availability(v.queryRef(datacenter, name)) == isthmusv1.Availability_AVAILABILITY_EMPTY:
		return []*isthmusv1.Problem{problemError(CodeNoInstance, "",
			"prepared query %s of %s answered no instance", name, datacenter)}
	}
	return nil
}
