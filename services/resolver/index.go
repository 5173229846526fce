package resolver

import (
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// factKind is a kind of thing that an output may depend on.
type factKind uint8

const (
	// ofValue is the value of one key of a catalog.
	ofValue factKind = iota
	// ofMembers is the instances of a service in the mesh, with their nodes.
	ofMembers
	// ofGateways is the mesh gateways of a partition, with their nodes.
	ofGateways
	// ofDatacenters is which datacenters there are, and whose catalogs are here.
	ofDatacenters
	// ofNames is how a service is spelled by its instances. Derived.
	ofNames
	// ofAvailability is whether a set has an endpoint and a healthy one. Derived.
	ofAvailability
)

// fact names one thing that an output may depend on. Derived facts are computed
// from others; who reads them is disturbed only when their result changes, so
// that the health of one instance among several does not reach the routes.
type fact struct {
	kind       factKind
	datacenter string
	key        isthmusv1.Key
	set        isthmusv1.SetID
}

func valueFact(datacenter string, key isthmusv1.Key) fact {
	return fact{kind: ofValue, datacenter: datacenter, key: key}
}

func membersFact(datacenter, service string) fact {
	return fact{kind: ofMembers, datacenter: datacenter, key: isthmusv1.NewKey("", service)}
}

func gatewaysFact(datacenter, partition string) fact {
	return fact{kind: ofGateways, datacenter: datacenter, key: isthmusv1.NewKey("", partition)}
}

func datacentersFact() fact { return fact{kind: ofDatacenters} }

func namesFact(datacenter, service string) fact {
	return fact{kind: ofNames, datacenter: datacenter, key: isthmusv1.NewKey("", service)}
}

func availabilityFact(set isthmusv1.SetID) fact {
	return fact{kind: ofAvailability, datacenter: set.Datacenter, set: set}
}

// topic is a fact that someone has read: who, and for a derived one its unit
// and its result.
type topic struct {
	fact    fact
	readers bag[*unit]
	derived *unit
	result  any
	kept    uint64
}

// rank is the order in which units are made: each reads, or refers to, only
// what a lower rank has settled.
type rank uint8

const (
	rankFact rank = iota
	rankRoot
	rankRouteSet
	rankSet
	ranks
)

// job makes the outputs of one unit out of what it reads through the view.
type job interface {
	make(v *view)
	// forget takes the unit out of the register it is found by.
	forget(m *Machine)
}

// unit is a job with what it read and made the last time.
type unit struct {
	job    job
	rank   rank
	queued bool
	gone   bool
	reads  []*topic
	keys   []isthmusv1.Key
	// uses are the units whose outputs its own outputs refer to; users counts
	// the other direction. A route set or endpoint set that nobody uses goes.
	uses  []*unit
	users int
}

// index knows which unit depends on which fact, and which units must be made
// anew.
type index struct {
	topics map[fact]*topic
	queue  [ranks][]*unit
	idle   []*unit
	// pass is raised for every comparison of old and new reads.
	pass uint64
}

func (x *index) enqueue(u *unit) {
	if !u.queued && !u.gone {
		u.queued = true
		x.queue[u.rank] = append(x.queue[u.rank], u)
	}
}

// changed queues everyone who read the fact.
func (x *index) changed(f fact) {
	t := x.topics[f]
	if t == nil {
		return
	}
	for u := range t.readers.all() {
		x.enqueue(u)
	}
}

// settle makes all queued units, in the order of their ranks, until none is
// left.
func (m *Machine) settle() {
	for r := range ranks {
		for len(m.index.queue[r]) > 0 {
			u := m.index.queue[r][len(m.index.queue[r])-1]
			m.index.queue[r] = m.index.queue[r][:len(m.index.queue[r])-1]
			u.queued = false
			if !u.gone {
				m.run(u)
			}
		}
		m.reap(r + 1)
	}
}

// run makes a unit and replaces what it had read, made and used.
func (m *Machine) run(u *unit) {
	v := &view{machine: m, datacenter: m.datacenter, unit: u}
	u.job.make(v)
	m.replaceReads(u, v.reads)
	if v.retired {
		m.retire(u)
		return
	}
	m.replaceUses(u, v.uses)
	m.replaceOutputs(u, v.outputs)
}

func (m *Machine) replaceReads(u *unit, reads []*topic) {
	m.index.pass++
	pass := m.index.pass // Retiring a derived fact below begins another.
	distinct := make([]*topic, 0, len(u.reads))
	for _, t := range reads {
		if t.kept != pass {
			t.kept = pass
			t.readers.add(u)
			distinct = append(distinct, t)
		}
	}
	for _, t := range u.reads {
		if t.kept != pass {
			m.unread(t, u)
		}
	}
	u.reads = distinct
}

// unread takes a reader from a topic, and forgets a topic without readers.
func (m *Machine) unread(t *topic, u *unit) {
	t.readers.remove(u)
	if t.readers.size() > 0 || m.index.topics[t.fact] != t {
		return
	}
	delete(m.index.topics, t.fact)
	if t.derived != nil {
		m.retire(t.derived)
	}
}

func (m *Machine) replaceUses(u *unit, uses []*unit) {
	for _, used := range uses {
		used.users++
	}
	for _, used := range u.uses {
		used.users--
		if used.users == 0 {
			m.index.idle = append(m.index.idle, used)
		}
	}
	u.uses = uses
}

func (m *Machine) replaceOutputs(u *unit, outputs []Output) {
	keys := make([]isthmusv1.Key, len(outputs))
	made := make(map[isthmusv1.Key]struct{}, len(outputs))
	for i, o := range outputs {
		keys[i] = o.Key
		made[o.Key] = struct{}{}
		m.put(o.Key, o.Value)
	}
	for _, key := range u.keys {
		if _, ok := made[key]; !ok {
			m.put(key, nil)
		}
	}
	u.keys = keys
}

// retire ends a unit: its outputs go, and it depends on nothing any more.
func (m *Machine) retire(u *unit) {
	if u.gone {
		return
	}
	u.gone = true
	u.job.forget(m)
	m.replaceOutputs(u, nil)
	m.replaceUses(u, nil)
	m.replaceReads(u, nil)
}

// reap retires the units of a rank that nobody uses any more.
func (m *Machine) reap(r rank) {
	var later []*unit
	for len(m.index.idle) > 0 {
		idle := m.index.idle
		m.index.idle = nil
		for _, u := range idle {
			switch {
			case u.gone || u.users > 0:
			case u.rank > r:
				later = append(later, u)
			default:
				m.retire(u)
			}
		}
	}
	m.index.idle = later
}
