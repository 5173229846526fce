package resolver

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// queryType is the destination type of an upstream that is a prepared query.
const queryType = "prepared_query"

// source is what the routes of a proxy depend on, of the proxy: the service it
// stands for, its own mode, and its upstreams without their binds. Proxies with
// equal sources share a route set.
type source struct {
	// service as registered.
	service *isthmusv1.ServiceRef
	mode    string
	// merged: the modes shown are the merged result of all levels.
	merged    bool
	upstreams []sourceUpstream
	// hash of all the above.
	hash string
}

// shown is the mode that a registration shows for an upstream: the upstream's
// own, else the instance's.
func (s *source) shown(up *isthmusv1.Upstream) string {
	return cmp.Or(up.GetMeshGateway().GetMode(), s.mode)
}

// sourceUpstream is one upstream with the ID of its route.
type sourceUpstream struct {
	id       string
	upstream *isthmusv1.Upstream
}

// newSource reads a proxy's registration. routes holds the ID of the route of
// each of its upstreams, in the order of the registration.
func newSource(m *isthmusv1.ServiceInstance, own string) (s *source, routes []string) {
	s = &source{
		service: destinationOf(m),
		mode:    m.GetProxy().GetMeshGateway().GetMode(),
		merged:  m.GetMergedCentralConfig(),
	}
	seen := map[string][]*isthmusv1.Upstream{}
	for _, up := range m.GetProxy().GetUpstreams() {
		bare := withoutBind(up, own)
		id := s.routeID(bare, own)
		// Equal upstreams on several binds are one route; others of one
		// destination, which Consul's catalog lets stand, are counted.
		n := slices.IndexFunc(seen[id], func(o *isthmusv1.Upstream) bool { return proto.Equal(o, bare) })
		if n < 0 {
			n = len(seen[id])
			seen[id] = append(seen[id], bare)
			s.upstreams = append(s.upstreams, sourceUpstream{id: numbered(id, n), upstream: bare})
		}
		routes = append(routes, numbered(id, n))
	}
	slices.SortFunc(s.upstreams, func(a, b sourceUpstream) int { return cmp.Compare(a.id, b.id) })
	s.hash = s.sum()
	return s, routes
}

func numbered(id string, n int) string {
	if n == 0 {
		return id
	}
	return id + "#" + strconv.Itoa(n+1)
}

// withoutBind leaves out where an upstream listens, and a datacenter that goes
// without saying.
func withoutBind(up *isthmusv1.Upstream, own string) *isthmusv1.Upstream {
	bare := proto.CloneOf(up)
	if bare.Datacenter = strings.ToLower(up.GetDatacenter()); bare.GetDatacenter() == own {
		bare.Datacenter = ""
	}
	bare.LocalBindAddress, bare.LocalBindPort = "", 0
	bare.LocalBindSocketPath, bare.LocalBindSocketMode = "", ""
	return bare
}

// routeID names an upstream among those of its proxy: api, api@dc2,
// prepared_query:near, api%peer.
func (s *source) routeID(up *isthmusv1.Upstream, own string) string {
	id := s.destination(up).Qualified()
	if isQuery(up) {
		id = queryType + ":" + strings.ToLower(up.GetDestinationName())
	}
	if dc := strings.ToLower(up.GetDatacenter()); dc != "" && dc != own {
		id += "@" + dc
	}
	if peer := up.GetDestinationPeer(); peer != "" {
		id += "%" + strings.ToLower(peer)
	}
	return id
}

// sum hashes the inputs, so that a change of the routes renames nothing.
func (s *source) sum() string {
	inputs := &isthmusv1.ServiceInstance{
		MergedCentralConfig: s.merged,
		Proxy: &isthmusv1.Proxy{
			DestinationServiceName: s.service.Qualified(),
			MeshGateway:            &isthmusv1.MeshGateway{Mode: s.mode},
		},
	}
	for _, up := range s.upstreams {
		inputs.Proxy.Upstreams = append(inputs.Proxy.Upstreams, up.upstream)
	}
	text, err := isthmusv1.Marshal(inputs)
	if err != nil {
		// Only text that is not UTF-8 fails, and nothing read from a stream holds
		// any; the names alone are a poorer hash, but never a random one.
		text = []byte(strings.Join(s.ids(), "\x00"))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func (s *source) ids() []string {
	ids := make([]string, len(s.upstreams))
	for i, up := range s.upstreams {
		ids[i] = up.id
	}
	return ids
}

// qualify gives a name the source's partition and namespace where it has none.
func (s *source) qualify(partition, namespace, name string) *isthmusv1.ServiceRef {
	return newRef(
		cmp.Or(partition, s.service.GetPartition()),
		cmp.Or(namespace, s.service.GetNamespace()),
		name,
	)
}

// destination is the service that an upstream names.
func (s *source) destination(up *isthmusv1.Upstream) *isthmusv1.ServiceRef {
	return s.qualify(up.GetDestinationPartition(), up.GetDestinationNamespace(), up.GetDestinationName())
}

func isQuery(up *isthmusv1.Upstream) bool {
	return strings.EqualFold(up.GetDestinationType(), queryType)
}
