package resolver

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-bexpr"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// filter is a compiled subset filter, or why it could not be compiled. A filter
// that is bad takes no instance.
type filter struct {
	evaluator *bexpr.Evaluator
	err       error
}

// newFilter compiles an expression and tries it on a sample, so that a selector
// that no instance has is found although there is no instance.
func newFilter(expression string) *filter {
	if expression == "" {
		return &filter{}
	}
	f := &filter{}
	f.err = guard(func() (err error) {
		f.evaluator, err = bexpr.CreateEvaluator(expression)
		return err
	})
	if f.err == nil {
		if _, err := f.evaluate(sampleInstance()); err != nil && !isMissingKey(err) {
			f.err = err
		}
	}
	return f
}

// isMissingKey reports whether an evaluation failed at a key that one instance
// has and another has not, like a tagged address, and not at a field that none
// has. The library tells them apart in its text only.
func isMissingKey(err error) bool {
	text := err.Error()
	return strings.Contains(text, "couldn't find key") && !strings.Contains(text, "struct field")
}

// takes reports whether the filter takes an instance.
func (f *filter) takes(datacenter string, v *value) bool {
	switch {
	case f.err != nil:
		return false
	case f.evaluator == nil:
		return true
	}
	ok, err := f.evaluate(newFilterView(datacenter, v))
	return err == nil && ok
}

func (f *filter) evaluate(datum filterView) (ok bool, err error) {
	err = guard(func() (err error) {
		ok, err = f.evaluator.Evaluate(datum)
		return err
	})
	return ok, err
}

// guard turns a panic of the expression library into an error: expressions come
// from outside.
func guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the filter cannot be evaluated: %v", r)
		}
	}()
	return do()
}

// filterView is an instance as Consul's filters name its parts
// (CheckServiceNode): Node.Meta.rack, Service.Meta.version, Service.Tags, Checks.
type filterView struct {
	Node    filterNode
	Service filterService
	Checks  []filterCheck
}

type filterNode struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	Partition       string
	TaggedAddresses map[string]string
	Meta            map[string]string
}

type filterService struct {
	Kind              string
	ID                string
	Service           string
	Namespace         string
	Partition         string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]filterAddress
	Meta              map[string]string
	Port              int
	SocketPath        string
	Weights           filterWeights
	EnableTagOverride bool
	Proxy             filterProxy
	Connect           filterConnect
}

type filterAddress struct {
	Address string
	Port    int
}

type filterWeights struct {
	Passing int
	Warning int
}

type filterProxy struct {
	DestinationServiceName string
	DestinationServiceID   string
	LocalServiceAddress    string
	LocalServicePort       int
	Mode                   string
	Config                 map[string]any
	MeshGateway            filterMeshGateway
}

type filterMeshGateway struct{ Mode string }

type filterConnect struct{ Native bool }

type filterCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	ServiceID   string
	ServiceName string
	Type        string
}

func newFilterView(datacenter string, v *value) filterView {
	m, n := v.instance(), v.node.message
	view := filterView{
		Node: filterNode{
			ID: n.GetId(), Node: m.GetNode(), Address: n.GetAddress(), Datacenter: datacenter,
			Partition: m.GetPartition(), Meta: pairs(n.GetMeta()), TaggedAddresses: map[string]string{},
		},
		Service: filterService{
			Kind: m.GetKind(), ID: m.GetId(), Service: m.GetName(),
			Namespace: m.GetNamespace(), Partition: m.GetPartition(),
			Tags: m.GetTags(), Address: m.GetAddress(), Meta: pairs(m.GetMeta()),
			TaggedAddresses: map[string]filterAddress{},
			Port:            int(m.GetPort()), SocketPath: m.GetSocketPath(),
			Weights:           filterWeights{Passing: 1, Warning: 1},
			EnableTagOverride: m.GetEnableTagOverride(),
			Proxy:             newFilterProxy(m.GetProxy()),
			Connect:           filterConnect{Native: m.GetConnectNative()},
		},
	}
	for _, a := range n.GetTaggedAddresses() {
		view.Node.TaggedAddresses[a.GetTag()] = a.GetAddress()
	}
	for _, a := range m.GetTaggedAddresses() {
		view.Service.TaggedAddresses[a.GetTag()] = filterAddress{Address: a.GetAddress(), Port: int(a.GetPort())}
	}
	if w := m.GetWeights(); w != nil {
		view.Service.Weights = filterWeights{Passing: int(w.GetPassing()), Warning: int(w.GetWarning())}
	}
	for _, c := range n.GetChecks() {
		view.Checks = append(view.Checks, newFilterCheck(m.GetNode(), c, nil))
	}
	for _, c := range m.GetChecks() {
		view.Checks = append(view.Checks, newFilterCheck(m.GetNode(), c, m))
	}
	return view
}

func newFilterProxy(p *isthmusv1.Proxy) filterProxy {
	return filterProxy{
		DestinationServiceName: p.GetDestinationServiceName(),
		DestinationServiceID:   p.GetDestinationServiceId(),
		LocalServiceAddress:    p.GetLocalServiceAddress(),
		LocalServicePort:       int(p.GetLocalServicePort()),
		Mode:                   p.GetMode(),
		Config:                 parseOpaque(p.GetConfigJson()),
		MeshGateway:            filterMeshGateway{Mode: p.GetMeshGateway().GetMode()},
	}
}

func newFilterCheck(node string, c *isthmusv1.Check, m *isthmusv1.ServiceInstance) filterCheck {
	return filterCheck{
		Node: node, CheckID: c.GetCheckId(), Name: c.GetName(), Status: c.GetStatus(),
		ServiceID: m.GetId(), ServiceName: m.GetName(), Type: c.GetType(),
	}
}

func pairs(list []*isthmusv1.KeyValue) map[string]string {
	out := make(map[string]string, len(list))
	for _, kv := range list {
		out[kv.GetKey()] = kv.GetValue()
	}
	return out
}

// sampleInstance has one of everything that a selector may index.
func sampleInstance() filterView {
	return newFilterView("dc1", &value{
		message: &isthmusv1.ServiceInstance{
			Tags: []string{"tag"}, Proxy: &isthmusv1.Proxy{},
			Checks: []*isthmusv1.Check{{CheckId: "check", Status: isthmusv1.CheckPassing}},
		},
		node: &node{message: &isthmusv1.Node{}},
	})
}

// subset is a subset of a service as an endpoint set needs it. The zero value
// takes every instance.
type subset struct {
	filter      *filter
	onlyPassing bool
	unknown     bool
}

// subset reads a service's subset by its qualified name. Filters are compiled
// once for each state of the entry.
func (v *view) subset(ref *isthmusv1.ServiceRef, name string) subset {
	if name == "" {
		return subset{filter: &filter{}}
	}
	found, entry := v.resolver(ref)
	s := subsetOf(entry, name)
	if s == nil {
		return subset{unknown: true}
	}
	filters, _ := found.parsed.(map[string]*filter)
	if filters == nil {
		filters = map[string]*filter{}
		found.parsed = filters
	}
	if filters[s.GetFilter()] == nil {
		filters[s.GetFilter()] = newFilter(s.GetFilter())
	}
	return subset{filter: filters[s.GetFilter()], onlyPassing: s.GetOnlyPassing()}
}

// subsetProblem says why a subset takes nothing, if it is the subset's fault.
func (v *view) subsetProblem(p place) *isthmusv1.Problem {
	s := v.subset(p.service, p.subset)
	entry := "service-resolver/" + p.service.Qualified()
	switch {
	case s.unknown:
		return problemError(CodeUnknownSubset, "define it in "+entry,
			"%s has no subset %s: no instance is in it", p.service.Qualified(), p.subset)
	case s.filter.err != nil:
		return problemError(CodeBadFilter, "correct the filter in "+entry,
			"the filter of subset %s in %s takes no instance: %v", p.subset, entry, s.filter.err)
	}
	return nil
}
