package resolver

import (
	"fmt"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Explain answers how upstreams of proxies are routed, and why: one explanation
// for each proxy and upstream that the question covers, by node and ID, then in
// the order of the registration. A proxy without upstreams has none. It reads the routes that the machine has made;
// nothing is decided a second time.
//
// Possible errors: [ErrNotWhole], and in a [NoAnswerError] [ErrUnknownProxy],
// [ErrAmbiguousProxy], [ErrUnknownUpstream].
func (m *Machine) Explain(q Question) ([]Explanation, error) {
	if !m.advance() {
		return nil, ErrNotWhole
	}
	proxies, err := m.findProxies(q.Proxy)
	if err != nil {
		return nil, err
	}
	var out []Explanation
	var candidates []string
	for _, p := range proxies {
		for _, up := range m.upstreamsOf(p) {
			candidates = append(candidates, up.label)
			if up.answers(q) {
				out = append(out, m.explain(p, up))
			}
		}
	}
	if len(out) == 0 && asked(q) != "" {
		return nil, &NoAnswerError{Err: ErrUnknownUpstream, Name: asked(q), Candidates: distinct(candidates)}
	}
	return out, nil
}

func asked(q Question) string {
	if q.Datacenter == "" {
		return q.Upstream
	}
	return q.Upstream + "@" + q.Datacenter
}

func (m *Machine) explain(p *value, up registered) Explanation {
	routes, _ := m.outputs[p.proxyKey()].(*isthmusv1.ProxyRoutes)
	e := Explanation{
		Proxy:      proxyName(p),
		Service:    routes.GetService(),
		Upstream:   up.upstream,
		Datacenter: up.route.GetDatacenter(),
		Protocol:   up.route.GetProtocol(),
		Route:      up.route,
		Basis:      m.basis,
	}
	for _, list := range [][]*isthmusv1.Problem{routes.GetProblems(), up.route.GetProblems()} {
		for _, problem := range list {
			e.Problems = addProblem(e.Problems, problem)
		}
	}
	x := &explainer{machine: m, proxy: p, service: routes.GetService(), route: up.route, upstream: up.upstream}
	x.source, _ = newSource(p.instance(), m.datacenter)
	x.walk(up.route.GetChain().GetStart(), nil)
	e.Targets = x.targets
	e.Authorization = overall(e.Targets)
	return e
}

// overall is the authorization of the first target that would refuse, else that
// of the first. A target whose intentions are not known speaks for the upstream
// only where no other does: its datacenter is not reached either.
func overall(targets []ExplainedTarget) Authorization {
	if len(targets) == 0 {
		return Authorization{Reason: "the upstream leads nowhere"}
	}
	out := targets[0].Authorization
	for _, t := range targets[1:] {
		if a := t.Authorization; !out.known() || a.known() && out.Allowed && !a.Allowed {
			out = a
		}
	}
	return out
}

// known reports whether intentions were asked at all: they always come to a
// default action.
func (a Authorization) known() bool { return a.DefaultAction != "" }

// explainer walks the chain of one route of one proxy.
type explainer struct {
	machine *Machine
	proxy   *value
	service *isthmusv1.ServiceRef
	route   *isthmusv1.Route
	// upstream as registered, of the source that the proxy is.
	upstream *isthmusv1.Upstream
	source   *source
	targets  []ExplainedTarget
}

// walk lists the targets that are reached from a node of the chain.
func (x *explainer) walk(name string, match *isthmusv1.ServiceRouteMatch) {
	node := x.node(name)
	switch {
	case node.GetRouter() != nil:
		for _, r := range node.GetRouter().GetRoutes() {
			x.walk(r.GetNext(), r.GetMatch())
		}
	case node.GetSplitter() != nil:
		for _, s := range node.GetSplitter().GetSplits() {
			x.choices(s.GetNext(), match, s.GetWeight())
		}
	default:
		x.choices(name, match, allWeight)
	}
}

// choices lists the targets of a resolver: the first choice, then its failover.
func (x *explainer) choices(name string, match *isthmusv1.ServiceRouteMatch, weight uint32) {
	r := x.node(name).GetResolver()
	if r == nil {
		return
	}
	for i, id := range append([]string{r.GetTarget()}, r.GetFailover()...) {
		if t := x.target(id); t != nil {
			explained := x.explain(t)
			explained.Match, explained.Weight, explained.FailoverIndex = match, weight, i
			x.targets = append(x.targets, explained)
		}
	}
}

func (x *explainer) node(name string) *isthmusv1.ChainNode {
	for _, n := range x.route.GetChain().GetNodes() {
		if n.GetName() == name {
			return n
		}
	}
	return nil
}

func (x *explainer) target(id string) *isthmusv1.Target {
	for _, t := range x.route.GetTargets() {
		if t.GetId() == id {
			return t
		}
	}
	return nil
}

func (x *explainer) explain(t *isthmusv1.Target) ExplainedTarget {
	d := t.GetDecision()
	e := ExplainedTarget{
		Target: t, Winner: x.level(d.GetWinner()), Hidden: x.levels(d.GetHidden()),
		Likeliest: x.levels(likeliest(d, x.source, x.upstream)),
		Problems:  slices.Clone(t.GetProblems()),
	}
	x.entries(&e)
	for _, ref := range t.GetEndpointSets() {
		e.Endpoints = append(e.Endpoints, isthmusv1.Candidates(x.machine.set(ref), x.machine.set(t.GetBackend()))...)
	}
	e.Authorization = x.authorization(t)
	return e
}

// entries sets what only the present entries tell: what is pending, and a mode
// that may be sticky.
func (x *explainer) entries(e *ExplainedTarget) {
	v := &view{machine: x.machine, datacenter: x.machine.datacenter}
	e.Pending = v.pending(x.source, x.upstream)
	if e.Pending == PendingCertain {
		e.Unmerged = x.levels(v.entryLevels(x.source, x.upstream))
	}
	deciding := append([]ExplainedLevel{e.Winner}, e.Hidden...)
	if len(e.Likeliest) > 0 && entryLevel(e.Likeliest[0].LevelMode) {
		deciding = e.Hidden
	}
	if problem := sticky(deciding); problem != nil {
		e.Problems = addProblem(e.Problems, problem)
	}
}

func (x *explainer) levels(list []*isthmusv1.LevelMode) []ExplainedLevel {
	var out []ExplainedLevel
	for _, l := range list {
		out = append(out, x.level(l))
	}
	return out
}

// level finds where a mode was written.
func (x *explainer) level(l *isthmusv1.LevelMode) ExplainedLevel {
	e := ExplainedLevel{LevelMode: l}
	found := x.proxy
	switch {
	case l.GetLevel() == isthmusv1.Level_LEVEL_DEFAULT:
		return e
	case l.GetKey() != "":
		found = x.machine.catalogs[x.machine.datacenter].values[configKeyOf(l.GetKey())]
	}
	if found != nil {
		e.Key = found.key
		e.Origin = x.machine.origin(x.machine.datacenter, found)
	}
	return e
}

// configKeyOf is the key that a decision cites, like config/service-defaults/web.
func configKeyOf(text string) isthmusv1.Key {
	kind, rest, _ := strings.Cut(text, "/")
	entry, name, _ := strings.Cut(rest, "/")
	return isthmusv1.NewKey(isthmusv1.Kind(kind), entry, name)
}

func (m *Machine) origin(datacenter string, v *value) *Origin {
	return &Origin{
		Stream:      m.catalogs[datacenter].stream,
		Incarnation: v.cause.Incarnation,
		Sequence:    v.cause.Sequence,
		Source:      v.source,
	}
}

// set puts the chunks of an endpoint set together; nil for no reference.
func (m *Machine) set(ref *isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet {
	if ref == nil {
		return nil
	}
	id := ref.ID()
	first, _ := m.outputs[id.Key(0)].(*isthmusv1.EndpointSet)
	if first.GetChunks() <= 1 {
		return first
	}
	whole := &isthmusv1.EndpointSet{Ref: first.GetRef(), Availability: first.GetAvailability(), Chunks: 1}
	for i := range first.GetChunks() {
		chunk, _ := m.outputs[id.Key(i)].(*isthmusv1.EndpointSet)
		whole.Endpoints = append(whole.Endpoints, chunk.GetEndpoints()...)
	}
	return whole
}

// authorization asks the intentions of the target's datacenter, which are those
// that its proxies apply.
func (x *explainer) authorization(t *isthmusv1.Target) Authorization {
	if strings.EqualFold(x.route.GetDestinationType(), queryType) {
		return x.queryAuthorization(t)
	}
	return x.authorized(t.GetService(), t.GetDatacenter())
}

// queryAuthorization is that of the first service that a prepared query
// answered and that would refuse, else of the first.
func (x *explainer) queryAuthorization(t *isthmusv1.Target) Authorization {
	out := Authorization{Reason: "the prepared query answered no service"}
	v := &view{machine: x.machine, datacenter: x.machine.datacenter}
	for i, r := range v.query(t.GetDatacenter(), t.GetService().GetName()).GetResults() {
		a := x.authorized(v.resultService(t.GetDatacenter(), r), resultDatacenter(t.GetDatacenter(), r))
		if i == 0 || out.Allowed && !a.Allowed {
			out = a
		}
	}
	return out
}

func (x *explainer) authorized(service *isthmusv1.ServiceRef, datacenter string) Authorization {
	if !x.machine.hasCatalog(datacenter) {
		return Authorization{Reason: "the catalog of " + datacenter + " is not here: its intentions are not known"}
	}
	v := &view{machine: x.machine, datacenter: datacenter}
	in := v.inbound(service)
	a := Authorization{DefaultAction: in.GetDefaultAction(), Intention: in.Match(x.service)}
	a.Allowed, a.ByRequest = in.Allows(x.service)
	key := isthmusv1.MeshFactsKey()
	if a.Intention != nil {
		key = configKeyOf(a.Intention.GetKey())
	}
	if found := x.machine.catalogs[datacenter].values[key]; found != nil {
		a.Origin = x.machine.origin(datacenter, found)
	}
	a.Reason = reason(x.service, service, datacenter, in, a)
	return a
}

func reason(from, to *isthmusv1.ServiceRef, datacenter string, in *isthmusv1.Inbound, a Authorization) string {
	who := fmt.Sprintf("%s to %s in %s", from.GetName(), to.GetName(), datacenter)
	i := a.Intention
	switch {
	case i == nil:
		return fmt.Sprintf("%s: no intention matches, the default is %s", who, in.GetDefaultAction())
	case a.ByRequest:
		return fmt.Sprintf("%s: the permissions of %s decide by request", who, i.GetKey())
	case hasPermissions(i):
		return fmt.Sprintf("%s: %s has permissions, which deny because the protocol is %s", who, i.GetKey(), in.GetProtocol())
	}
	return fmt.Sprintf("%s: %s from %s in %s, precedence %d", who, i.GetAction(), i.GetSource().GetName(), i.GetKey(), i.GetPrecedence())
}
