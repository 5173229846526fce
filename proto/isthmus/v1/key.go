package isthmusv1

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Class is the kind of stream that a key lives in, as it stands in subjects.
type Class string

// The classes of streams.
const (
	ClassCatalog Class = "catalog"
	ClassRoutes  Class = "routes"
	ClassStatus  Class = "status"
)

// Kind is the kind of a value, as it stands in subjects.
type Kind string

// The kinds of values. Writer stands in catalog and routes streams.
const (
	KindWriter Kind = "writer"

	KindNode          Kind = "node"
	KindInstance      Kind = "instance"
	KindConfig        Kind = "config"
	KindRoots         Kind = "roots"
	KindMeshFacts     Kind = "mesh-facts"
	KindPreparedQuery Kind = "prepared-query"

	KindBasis    Kind = "basis"
	KindEndpoint Kind = "endpoints"
	KindInbound  Kind = "inbound"
	KindRouteSet Kind = "routeset"
	KindProxy    Kind = "proxy"
	KindName     Kind = "sni"
	KindWildcard Kind = "wildcard"
	KindMesh     Kind = "mesh"

	KindReport Kind = "report"
)

// kinds gives each kind its place in the order of emission and its value.
var kinds = map[Kind]struct {
	rank int
	make func() proto.Message
}{
	KindWriter:        {0, func() proto.Message { return new(Writer) }},
	KindBasis:         {1, func() proto.Message { return new(Basis) }},
	KindRoots:         {2, func() proto.Message { return new(CARoots) }},
	KindMeshFacts:     {3, func() proto.Message { return new(MeshFacts) }},
	KindNode:          {4, func() proto.Message { return new(Node) }},
	KindInstance:      {5, func() proto.Message { return new(ServiceInstance) }},
	KindConfig:        {6, func() proto.Message { return new(ConfigEntry) }},
	KindPreparedQuery: {7, func() proto.Message { return new(PreparedQuery) }},
	KindMesh:          {10, func() proto.Message { return new(MeshRoutes) }},
	KindEndpoint:      {11, func() proto.Message { return new(EndpointSet) }},
	KindInbound:       {12, func() proto.Message { return new(Inbound) }},
	KindRouteSet:      {13, func() proto.Message { return new(RouteSet) }},
	KindProxy:         {14, func() proto.Message { return new(ProxyRoutes) }},
	KindName:          {15, func() proto.Message { return new(NameRoute) }},
	KindWildcard:      {16, func() proto.Message { return new(WildcardRoute) }},
	KindReport:        {20, func() proto.Message { return new(Report) }},
}

// NewValue returns an empty value of the kind, or nil for a kind that this
// version does not know; a reader keeps such a value's bytes and hands them on.
func NewValue(kind Kind) proto.Message {
	k, ok := kinds[kind]
	if !ok {
		return nil
	}
	return k.make()
}

// Key names one value of a stream. It is comparable; the zero Key names nothing.
type Key struct {
	Kind Kind
	// path holds the parts, joined by NUL, which no legal name contains.
	path string
}

// NewKey makes the key of the kind with the given parts, which must not
// contain NUL ([ValidateName] refuses it). Names are folded to lower case by
// the makers below, not here.
func NewKey(kind Kind, parts ...string) Key {
	return Key{Kind: kind, path: strings.Join(parts, "\x00")}
}

// Parts returns the parts of the key after its kind.
func (k Key) Parts() []string {
	if k.path == "" {
		return nil
	}
	return strings.Split(k.path, "\x00")
}

// String shows the key for people: kind/part/part.
func (k Key) String() string {
	if k.path == "" {
		return string(k.Kind)
	}
	return string(k.Kind) + "/" + strings.ReplaceAll(k.path, "\x00", "/")
}

// IsZero reports whether the key names nothing.
func (k Key) IsZero() bool { return k == Key{} }

// Compare orders keys as they are emitted: endpoint sets, inbound, route sets,
// proxies, names; each by its parts.
func (k Key) Compare(other Key) int {
	return cmp.Or(
		cmp.Compare(kinds[k.Kind].rank, kinds[other.Kind].rank),
		cmp.Compare(k.Kind, other.Kind),
		cmp.Compare(k.path, other.path),
	)
}

// SortKeys sorts keys in the order of [Key.Compare].
func SortKeys(keys []Key) { slices.SortFunc(keys, Key.Compare) }

// DefaultName is the name of the only partition and namespace of Consul CE.
const DefaultName = "default"

// Qualified is how a service name stands in keys: the bare name in the default
// partition and namespace, else partition/namespace/name. It is folded to lower
// case, as look-ups match without case.
func Qualified(partition, namespace, name string) string {
	p, n := cmp.Or(partition, DefaultName), cmp.Or(namespace, DefaultName)
	if strings.EqualFold(p, DefaultName) && strings.EqualFold(n, DefaultName) {
		return strings.ToLower(name)
	}
	return strings.ToLower(p + "/" + n + "/" + name)
}

// Qualified is the service's name as it stands in keys.
func (r *ServiceRef) Qualified() string {
	return Qualified(r.GetPartition(), r.GetNamespace(), r.GetName())
}

// WriterKey is the key of a stream's [Writer].
func WriterKey() Key { return NewKey(KindWriter) }

// NodeKey is the key of a [Node].
func NodeKey(partition, node string) Key {
	return NewKey(KindNode, qualifiedNode(partition, node))
}

func qualifiedNode(partition, node string) string {
	if partition == "" || strings.EqualFold(partition, DefaultName) {
		return strings.ToLower(node)
	}
	return strings.ToLower(partition + "/" + node)
}

// InstanceKey is the key of a [ServiceInstance]. An ID is unique on its node
// within a namespace.
func InstanceKey(partition, node, namespace, id string) Key {
	return NewKey(KindInstance, qualifiedNode(partition, node), qualifiedID(namespace, id))
}

func qualifiedID(namespace, id string) string {
	if namespace == "" || strings.EqualFold(namespace, DefaultName) {
		return strings.ToLower(id)
	}
	return strings.ToLower(namespace + "/" + id)
}

// ConfigKey is the key of a [ConfigEntry].
func ConfigKey(kind, partition, namespace, name string) Key {
	return NewKey(KindConfig, kind, Qualified(partition, namespace, name))
}

// RootsKey is the key of the [CARoots].
func RootsKey() Key { return NewKey(KindRoots) }

// MeshFactsKey is the key of the [MeshFacts].
func MeshFactsKey() Key { return NewKey(KindMeshFacts) }

// PreparedQueryKey is the key of a [PreparedQuery].
func PreparedQueryKey(name string) Key {
	return NewKey(KindPreparedQuery, strings.ToLower(name))
}

// BasisKey is the key of a basis that changed no route.
func BasisKey() Key { return NewKey(KindBasis) }

// MeshKey is the key of the [MeshRoutes].
func MeshKey() Key { return NewKey(KindMesh) }

// InboundKey is the key of a service's [Inbound].
func InboundKey(service *ServiceRef) Key { return NewKey(KindInbound, service.Qualified()) }

// RouteSetKey is the key of a [RouteSet].
func RouteSetKey(service *ServiceRef, hash string) Key {
	return NewKey(KindRouteSet, service.Qualified(), hash)
}

// ProxyKey is the key of a [ProxyRoutes], with the parts of its instance's key.
func ProxyKey(partition, node, namespace, id string) Key {
	return NewKey(KindProxy, qualifiedNode(partition, node), qualifiedID(namespace, id))
}

// NameKey is the key of a [NameRoute]; the subset may be empty.
func NameKey(service *ServiceRef, subset string) Key {
	if subset == "" {
		return NewKey(KindName, service.Qualified())
	}
	return NewKey(KindName, service.Qualified(), strings.ToLower(subset))
}

// WildcardKey is the key of a [WildcardRoute]; the partition is usually empty.
func WildcardKey(datacenter string) Key {
	return NewKey(KindWildcard, strings.ToLower(datacenter))
}

// ReportKey is the key of a [Report].
func ReportKey(role, name string) Key { return NewKey(KindReport, role, name) }

// SetID is an [EndpointSetRef] as a comparable value, for indexes; it names
// the set without its chunk.
type SetID struct {
	Datacenter string
	Scope      Scope
	// Qualified service name, or the partition of a set of mesh gateways, or
	// the name of a prepared query.
	Name         string
	Subset       string
	MeshGateways bool
	Query        bool
}

// ID returns the set's comparable name.
func (r *EndpointSetRef) ID() SetID {
	id := SetID{
		Datacenter:   strings.ToLower(r.GetDatacenter()),
		Scope:        r.GetScope(),
		Subset:       strings.ToLower(r.GetSubset()),
		MeshGateways: r.GetMeshGateways(),
	}
	switch {
	case r.GetPreparedQuery() != "":
		id.Name, id.Query = strings.ToLower(r.GetPreparedQuery()), true
	case r.GetMeshGateways():
		id.Name = strings.ToLower(cmp.Or(r.GetService().GetPartition(), DefaultName))
	default:
		id.Name = r.GetService().Qualified()
	}
	return id
}

// Key is the key of one chunk of the set.
func (s SetID) Key(chunk uint32) Key {
	what := "service"
	switch {
	case s.Query:
		what = "query"
	case s.MeshGateways:
		what = "gateways"
	}
	scope := strings.ToLower(strings.TrimPrefix(s.Scope.String(), "SCOPE_"))
	return NewKey(KindEndpoint, s.Datacenter, what, scope, s.Name, cmp.Or(s.Subset, "-"), strconv.FormatUint(uint64(chunk), 10))
}
