package resolver

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// value is the state of one key of a catalog.
type value struct {
	key     isthmusv1.Key
	message proto.Message
	cause   isthmusv1.Cause
	source  *isthmusv1.Source
	// node is that of an instance, present or not.
	node *node
	// parsed is what was read out of the message once and kept with it.
	parsed any
}

func (v *value) instance() *isthmusv1.ServiceInstance {
	i, _ := v.message.(*isthmusv1.ServiceInstance)
	return i
}

// node is a machine, or, with a nil message, the place of one that instances
// name and the catalog does not have.
type node struct {
	message   *isthmusv1.Node
	instances bag[*value]
}

// catalog is one datacenter's catalog, and the indexes by which it is asked. It
// reports every fact that a change touched to changed.
type catalog struct {
	datacenter string
	stream     string
	position   *isthmusv1.Position
	values     map[isthmusv1.Key]*value
	nodes      map[isthmusv1.Key]*node
	// services holds the instances in the mesh by qualified name of the service
	// that they stand for: its proxies, or itself where it is connect-native.
	services map[string]*bag[*value]
	// gateways holds the mesh gateways by partition.
	gateways map[string]*bag[*value]
	changed  func(fact)
}

func newCatalog(datacenter string, changed func(fact)) *catalog {
	return &catalog{
		datacenter: datacenter,
		values:     map[isthmusv1.Key]*value{},
		nodes:      map[isthmusv1.Key]*node{},
		services:   map[string]*bag[*value]{},
		gateways:   map[string]*bag[*value]{},
		changed:    changed,
	}
}

// held reports whether anything of the kind is decided by catalogs of this
// version; other values belong to readers newer than this one.
func held(kind isthmusv1.Kind) bool {
	switch kind {
	case isthmusv1.KindNode, isthmusv1.KindInstance, isthmusv1.KindConfig,
		isthmusv1.KindRoots, isthmusv1.KindMeshFacts, isthmusv1.KindPreparedQuery:
		return true
	}
	return false
}

// keep removes every key that is not among the changes of a reset.
func (c *catalog) keep(changes []isthmusv1.Change) {
	present := make(map[isthmusv1.Key]struct{}, len(changes))
	for i := range changes {
		present[changes[i].Key] = struct{}{}
	}
	for key := range c.values {
		if _, ok := present[key]; !ok {
			c.remove(key)
		}
	}
}

func (c *catalog) apply(change *isthmusv1.Change) {
	switch {
	case !held(change.Key.Kind):
	case change.Tombstone || change.Value == nil:
		c.remove(change.Key)
	default:
		c.set(change)
	}
}

func (c *catalog) set(change *isthmusv1.Change) {
	old := c.values[change.Key]
	if old != nil && proto.Equal(old.message, change.Value) {
		old.cause, old.source = change.Origin, change.Source
		return
	}
	if old != nil {
		c.unindex(old)
	}
	v := &value{key: change.Key, message: change.Value, cause: change.Origin, source: change.Source}
	c.values[change.Key] = v
	c.index(v)
}

func (c *catalog) remove(key isthmusv1.Key) {
	if v := c.values[key]; v != nil {
		delete(c.values, key)
		c.unindex(v)
	}
}

func (c *catalog) index(v *value) {
	switch m := v.message.(type) {
	case *isthmusv1.ServiceInstance:
		v.node = c.node(isthmusv1.NodeKey(m.GetPartition(), m.GetNode()))
		v.node.instances.add(v)
		if name, ok := meshService(m); ok {
			join(c.services, name, v)
		}
		if m.GetKind() == isthmusv1.InstanceKindMeshGateway {
			join(c.gateways, partitionOf(m), v)
		}
		c.touch(v)
	case *isthmusv1.Node:
		n := c.node(v.key)
		n.message = m
		c.touchNode(n)
	default:
		c.changed(valueFact(c.datacenter, v.key))
	}
}

func (c *catalog) unindex(v *value) {
	switch m := v.message.(type) {
	case *isthmusv1.ServiceInstance:
		v.node.instances.remove(v)
		c.dropNode(isthmusv1.NodeKey(m.GetPartition(), m.GetNode()))
		if name, ok := meshService(m); ok {
			leave(c.services, name, v)
		}
		if m.GetKind() == isthmusv1.InstanceKindMeshGateway {
			leave(c.gateways, partitionOf(m), v)
		}
		c.touch(v)
	case *isthmusv1.Node:
		n := c.node(v.key)
		n.message = nil
		c.touchNode(n)
		c.dropNode(v.key)
	default:
		c.changed(valueFact(c.datacenter, v.key))
	}
}

func (c *catalog) node(key isthmusv1.Key) *node {
	n := c.nodes[key]
	if n == nil {
		n = &node{}
		c.nodes[key] = n
	}
	return n
}

// dropNode forgets a node that is neither there nor named.
func (c *catalog) dropNode(key isthmusv1.Key) {
	if n := c.nodes[key]; n != nil && n.message == nil && n.instances.size() == 0 {
		delete(c.nodes, key)
	}
}

// touch reports everything that an instance has a part in.
func (c *catalog) touch(v *value) {
	m := v.instance()
	c.changed(valueFact(c.datacenter, v.key))
	if name, ok := meshService(m); ok {
		c.changed(membersFact(c.datacenter, name))
	}
	if m.GetKind() == isthmusv1.InstanceKindMeshGateway {
		c.changed(gatewaysFact(c.datacenter, partitionOf(m)))
	}
}

func (c *catalog) touchNode(n *node) {
	for v := range n.instances.all() {
		c.touch(v)
	}
}

// meshService is the qualified name of the service that an instance stands for
// in the mesh: a proxy's destination, or itself where it is connect-native.
func meshService(m *isthmusv1.ServiceInstance) (string, bool) {
	ref := destinationOf(m)
	if ref == nil {
		return "", false
	}
	return ref.Qualified(), true
}

// destinationOf is the service that an instance stands for, spelled as
// registered: the name that its certificate bears. Nil when it is not in the
// mesh.
func destinationOf(m *isthmusv1.ServiceInstance) *isthmusv1.ServiceRef {
	switch {
	case m.GetKind() == isthmusv1.InstanceKindProxy && m.GetProxy().GetDestinationServiceName() != "":
		return newRef(m.GetPartition(), m.GetNamespace(), m.GetProxy().GetDestinationServiceName())
	case m.GetKind() == "" && m.GetConnectNative() && m.GetName() != "":
		return newRef(m.GetPartition(), m.GetNamespace(), m.GetName())
	}
	return nil
}

// newRef names a service; the default partition and namespace are left out, so
// that equal names are equal messages.
func newRef(partition, namespace, name string) *isthmusv1.ServiceRef {
	return &isthmusv1.ServiceRef{
		Name:      name,
		Namespace: trimDefault(namespace),
		Partition: trimDefault(partition),
	}
}

func trimDefault(name string) string {
	if strings.EqualFold(name, isthmusv1.DefaultName) {
		return ""
	}
	return name
}

func partitionOf(m *isthmusv1.ServiceInstance) string { return foldPartition(m.GetPartition()) }

func foldPartition(partition string) string {
	return strings.ToLower(cmp.Or(partition, isthmusv1.DefaultName))
}

// join adds a value to the bag of a name, and leave takes it out again.
func join(bags map[string]*bag[*value], name string, v *value) {
	b := bags[name]
	if b == nil {
		b = &bag[*value]{}
		bags[name] = b
	}
	b.add(v)
}

func leave(bags map[string]*bag[*value], name string, v *value) {
	if b := bags[name]; b != nil {
		b.remove(v)
		if b.size() == 0 {
			delete(bags, name)
		}
	}
}

// sorted lists a bag's values by node and ID.
func sorted(b *bag[*value]) []*value {
	if b == nil {
		return nil
	}
	out := slices.AppendSeq(make([]*value, 0, b.size()), b.all())
	slices.SortFunc(out, func(x, y *value) int { return x.key.Compare(y.key) })
	return out
}
