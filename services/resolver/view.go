package resolver

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// view is how a job sees the catalogs. It notes every fact that is read, so
// that the job is done again when one changes, and takes what the job makes.
// Without a unit nothing is noted: for questions asked once.
type view struct {
	machine *Machine
	// datacenter is the one whose entries are read.
	datacenter string
	unit       *unit
	reads      []*topic
	uses       []*unit
	outputs    []Output
	retired    bool
}

// emit gives one output.
func (v *view) emit(key isthmusv1.Key, m proto.Message) {
	v.outputs = append(v.outputs, Output{Key: key, Value: m})
}

// use refers to the output of another unit, which stays as long as someone does.
func (v *view) use(u *unit) {
	if !slices.Contains(v.uses, u) {
		v.uses = append(v.uses, u)
	}
}

// retire says that what the job was about is gone.
func (v *view) retire() { v.retired = true }

// read notes a fact and returns its topic; nil when nothing is noted.
func (v *view) read(f fact) *topic {
	if v.unit == nil {
		return nil
	}
	topics := v.machine.index.topics
	t := topics[f]
	if t == nil {
		t = &topic{fact: f}
		topics[f] = t
	}
	v.reads = append(v.reads, t)
	return t
}

func (v *view) value(datacenter string, key isthmusv1.Key) *value {
	v.read(valueFact(datacenter, key))
	if c := v.machine.catalogs[datacenter]; c != nil {
		return c.values[key]
	}
	return nil
}

// entry is a config entry of the datacenter whose entries are read, with its key.
func (v *view) entry(kind, partition, namespace, name string) (*value, *isthmusv1.ConfigEntry) {
	found := v.value(v.datacenter, isthmusv1.ConfigKey(kind, partition, namespace, name))
	if found == nil {
		return nil, nil
	}
	e, _ := found.message.(*isthmusv1.ConfigEntry)
	return found, e
}

func (v *view) serviceEntry(kind string, ref *isthmusv1.ServiceRef) (*value, *isthmusv1.ConfigEntry) {
	return v.entry(kind, ref.GetPartition(), ref.GetNamespace(), ref.GetName())
}

func (v *view) serviceDefaults(ref *isthmusv1.ServiceRef) *isthmusv1.ServiceDefaults {
	_, e := v.serviceEntry(kindServiceDefaults, ref)
	return e.GetServiceDefaults()
}

func (v *view) splitter(ref *isthmusv1.ServiceRef) *isthmusv1.ServiceSplitter {
	_, e := v.serviceEntry(kindServiceSplitter, ref)
	return e.GetServiceSplitter()
}

func (v *view) router(ref *isthmusv1.ServiceRef) *isthmusv1.ServiceRouter {
	_, e := v.serviceEntry(kindServiceRouter, ref)
	return e.GetServiceRouter()
}

func (v *view) mesh(partition string) *isthmusv1.Mesh {
	_, e := v.entry(kindMesh, partition, "", kindMesh)
	return e.GetMesh()
}

// proxyDefaults are those of a partition, with their opaque config read.
func (v *view) proxyDefaults(partition string) (*isthmusv1.ProxyDefaults, opaque) {
	found, e := v.entry(kindProxyDefaults, partition, "", globalName)
	d := e.GetProxyDefaults()
	if d == nil {
		return nil, nil
	}
	if found.parsed == nil {
		found.parsed = parseOpaque(d.GetConfigJson())
	}
	config, _ := found.parsed.(opaque)
	return d, config
}

func (v *view) meshFacts() *isthmusv1.MeshFacts {
	found := v.value(v.datacenter, isthmusv1.MeshFactsKey())
	if found == nil {
		return nil
	}
	f, _ := found.message.(*isthmusv1.MeshFacts)
	return f
}

func (v *view) roots() *isthmusv1.CARoots {
	found := v.value(v.datacenter, isthmusv1.RootsKey())
	if found == nil {
		return nil
	}
	r, _ := found.message.(*isthmusv1.CARoots)
	return r
}

// trustDomain is that of the mesh facts, else of the roots.
func (v *view) trustDomain() string {
	if td := v.meshFacts().GetTrustDomain(); td != "" {
		return strings.ToLower(td)
	}
	return strings.ToLower(v.roots().GetTrustDomain())
}

// datacenters are all that are known, sorted: the own, those that its mesh
// facts list, and those whose catalogs are here.
func (v *view) datacenters() []string {
	v.read(datacentersFact())
	known := []string{v.machine.datacenter}
	for _, dc := range v.meshFacts().GetKnownDatacenters() {
		known = append(known, strings.ToLower(dc))
	}
	for dc := range v.machine.catalogs {
		if v.machine.hasCatalog(dc) {
			known = append(known, dc)
		}
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// hasCatalog reports whether a datacenter's catalog is here.
func (v *view) hasCatalog(datacenter string) bool {
	v.read(datacentersFact())
	return v.machine.hasCatalog(datacenter)
}

func (v *view) knows(datacenter string) bool {
	_, ok := slices.BinarySearch(v.datacenters(), datacenter)
	return ok
}

// members are the instances of a service in the mesh, by node and ID.
func (v *view) members(datacenter, service string) []*value {
	v.read(membersFact(datacenter, service))
	if c := v.machine.catalogs[datacenter]; c != nil {
		return sorted(c.services[service])
	}
	return nil
}

// gateways are the mesh gateways of a partition, by node and ID.
func (v *view) gateways(datacenter, partition string) []*value {
	v.read(gatewaysFact(datacenter, partition))
	if c := v.machine.catalogs[datacenter]; c != nil {
		return sorted(c.gateways[partition])
	}
	return nil
}

// names is how the instances of a service spell it in a datacenter, sorted;
// none when there are no instances.
func (v *view) names(datacenter string, ref *isthmusv1.ServiceRef) []string {
	service := ref.Qualified()
	joined, _ := v.derive(namesFact(datacenter, service), func(v *view) any {
		var names []string
		for _, member := range v.members(datacenter, service) {
			names = append(names, destinationOf(member.instance()).GetName())
		}
		slices.Sort(names)
		return strings.Join(slices.Compact(names), "\x00")
	}).(string)
	if joined == "" {
		return nil
	}
	return strings.Split(joined, "\x00")
}

// spelled is the service as its instances in the datacenter spell it, else as
// it is given.
func (v *view) spelled(datacenter string, ref *isthmusv1.ServiceRef) *isthmusv1.ServiceRef {
	names := v.names(datacenter, ref)
	if len(names) == 0 {
		return ref
	}
	return newRef(ref.GetPartition(), ref.GetNamespace(), names[0])
}

// availability of a set, whether it is put out or not.
func (v *view) availability(ref *isthmusv1.EndpointSetRef) isthmusv1.Availability {
	a, _ := v.derive(availabilityFact(ref.ID()), func(v *view) any {
		return availabilityOf(v.candidates(ref))
	}).(isthmusv1.Availability)
	return a
}

// derivation is the job of a derived fact.
type derivation struct {
	topic   *topic
	compute func(*view) any
}

func (d *derivation) make(v *view) {
	if result := d.compute(v); result != d.topic.result {
		d.topic.result = result
		v.machine.index.changed(d.topic.fact)
	}
}

func (d *derivation) forget(*Machine) {}

// derive reads a derived fact, computing it when nobody has read it before.
func (v *view) derive(f fact, compute func(*view) any) any {
	t := v.read(f)
	if t == nil {
		return compute(v)
	}
	if t.derived == nil {
		t.derived = &unit{rank: rankFact, job: &derivation{topic: t, compute: compute}}
		v.machine.run(t.derived)
	}
	return t.result
}
