package resolver

import (
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// maxChunk is the size in bytes from which an endpoint set is put out in
// several messages, so that none nears the 1 MiB limit of a payload.
const maxChunk = 256 << 10

// useSet refers to an endpoint set, which is put out as long as anyone does.
func (v *view) useSet(ref *isthmusv1.EndpointSetRef) {
	if ref == nil || v.unit == nil {
		return
	}
	id := ref.ID()
	u := v.machine.sets[id]
	if u == nil {
		u = &unit{rank: rankSet, job: &setJob{ref: ref}}
		v.machine.sets[id] = u
		v.machine.index.enqueue(u)
	}
	v.use(u)
}

// setJob puts out one endpoint set.
type setJob struct{ ref *isthmusv1.EndpointSetRef }

func (j *setJob) forget(m *Machine) { delete(m.sets, j.ref.ID()) }

func (j *setJob) make(v *view) {
	endpoints := v.candidates(j.ref)
	availability := availabilityOf(endpoints)
	if j.ref.GetScope() == isthmusv1.Scope_SCOPE_HEALTH {
		endpoints = nil
	}
	id := j.ref.ID()
	chunks := chunked(endpoints, maxChunk)
	for i, chunk := range chunks {
		v.emit(id.Key(uint32(i)), &isthmusv1.EndpointSet{
			Ref:          j.ref,
			Endpoints:    chunk,
			Availability: availability,
			Chunk:        uint32(i),
			Chunks:       uint32(len(chunks)),
		})
	}
}

// chunked cuts endpoints into parts of at most limit bytes, at least one part.
func chunked(endpoints []*isthmusv1.Endpoint, limit int) [][]*isthmusv1.Endpoint {
	// Tag and length of an element of a list.
	const overhead = 4
	var chunks [][]*isthmusv1.Endpoint
	start, size := 0, 0
	for i, e := range endpoints {
		n := proto.Size(e) + overhead
		if i > start && size+n > limit {
			chunks = append(chunks, endpoints[start:i])
			start, size = i, 0
		}
		size += n
	}
	return append(chunks, endpoints[start:])
}

func availabilityOf(endpoints []*isthmusv1.Endpoint) isthmusv1.Availability {
	if len(endpoints) == 0 {
		return isthmusv1.Availability_AVAILABILITY_EMPTY
	}
	for _, e := range endpoints {
		if e.GetHealth() == isthmusv1.Health_HEALTH_HEALTHY {
			return isthmusv1.Availability_AVAILABILITY_HEALTHY
		}
	}
	return isthmusv1.Availability_AVAILABILITY_UNHEALTHY
}

// candidates are the endpoints of a set, by node and ID, healthy or not.
func (v *view) candidates(ref *isthmusv1.EndpointSetRef) []*isthmusv1.Endpoint {
	dc := ref.GetDatacenter()
	switch {
	case ref.GetPreparedQuery() != "":
		return v.queryCandidates(ref)
	case ref.GetMeshGateways():
		partition := foldPartition(ref.GetService().GetPartition())
		return endpointsOf(dc, ref.GetScope(), v.gateways(dc, partition), subset{filter: &filter{}})
	}
	s := v.subset(ref.GetService(), ref.GetSubset())
	if s.unknown {
		return nil
	}
	return endpointsOf(dc, ref.GetScope(), v.members(dc, ref.GetService().Qualified()), s)
}

func endpointsOf(datacenter string, scope isthmusv1.Scope, values []*value, s subset) []*isthmusv1.Endpoint {
	var out []*isthmusv1.Endpoint
	for _, v := range values {
		if !s.filter.takes(datacenter, v) {
			continue
		}
		if e := endpointOf(datacenter, scope, v, s.onlyPassing); e != nil {
			out = append(out, e)
		}
	}
	return out
}

// endpointOf is an instance as a candidate; nil when it has no address to
// connect to, which happens while its node is not in the catalog.
func endpointOf(datacenter string, scope isthmusv1.Scope, v *value, onlyPassing bool) *isthmusv1.Endpoint {
	m, n := v.instance(), v.node.message
	e := &isthmusv1.Endpoint{
		Datacenter: datacenter,
		Node:       m.GetNode(),
		InstanceId: m.GetId(),
		Service:    m.GetName(),
		Locality:   m.GetLocality(),
	}
	if e.GetLocality() == nil {
		e.Locality = n.GetLocality()
	}
	e.Health, e.Weight = isthmusv1.InstanceHealth(n, m, onlyPassing)
	if scope == isthmusv1.Scope_SCOPE_LAN {
		e.Address, e.Port = isthmusv1.LANAddress(n, m)
	} else {
		e.Address, e.Port = isthmusv1.WANAddress(n, m)
	}
	if e.GetAddress() == "" || e.GetPort() == 0 {
		return nil
	}
	return e
}

// querySet names the set of a prepared query, which is that of the datacenter
// that answered it.
func querySet(datacenter, query string, scope isthmusv1.Scope) *isthmusv1.EndpointSetRef {
	return &isthmusv1.EndpointSetRef{Datacenter: datacenter, Scope: scope, PreparedQuery: strings.ToLower(query)}
}

func (v *view) query(datacenter, name string) *isthmusv1.PreparedQuery {
	found := v.value(datacenter, isthmusv1.PreparedQueryKey(name))
	if found == nil {
		return nil
	}
	q, _ := found.message.(*isthmusv1.PreparedQuery)
	return q
}

// queryCandidates are the results of a prepared query, in the order of the
// answer.
func (v *view) queryCandidates(ref *isthmusv1.EndpointSetRef) []*isthmusv1.Endpoint {
	var out []*isthmusv1.Endpoint
	for _, r := range v.query(ref.GetDatacenter(), ref.GetPreparedQuery()).GetResults() {
		if e := v.resultEndpoint(ref.GetDatacenter(), r); e != nil {
			out = append(out, e)
		}
	}
	return out
}

func (v *view) resultEndpoint(datacenter string, r *isthmusv1.PreparedQueryResult) *isthmusv1.Endpoint {
	dc := resultDatacenter(datacenter, r)
	e := &isthmusv1.Endpoint{
		Address: r.GetAddress(), Port: r.GetPort(),
		Health: isthmusv1.Health_HEALTH_UNHEALTHY, Weight: min(max(r.GetWeight(), 1), 128),
		Datacenter: dc, Node: r.GetNode(), InstanceId: r.GetInstanceId(), Service: r.GetService(),
	}
	if r.GetHealthy() {
		e.Health = isthmusv1.Health_HEALTH_HEALTHY
	}
	if found := v.resultInstance(dc, r); e.GetAddress() == "" && found != nil {
		if dc == v.machine.datacenter {
			e.Address, e.Port = isthmusv1.LANAddress(found.node.message, found.instance())
		} else {
			e.Address, e.Port = isthmusv1.WANAddress(found.node.message, found.instance())
		}
	}
	if e.GetAddress() == "" || e.GetPort() == 0 {
		return nil
	}
	return e
}

func resultDatacenter(datacenter string, r *isthmusv1.PreparedQueryResult) string {
	if dc := strings.ToLower(r.GetDatacenter()); dc != "" {
		return dc
	}
	return datacenter
}

// resultInstance is the instance that a result names, if its catalog is here.
func (v *view) resultInstance(datacenter string, r *isthmusv1.PreparedQueryResult) *value {
	found := v.value(datacenter, isthmusv1.InstanceKey(r.GetPartition(), r.GetNode(), r.GetNamespace(), r.GetInstanceId()))
	if found == nil || found.instance() == nil {
		return nil
	}
	return found
}
