package client

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// open reads a resource as what it should be, and checks that it has the name
// under which it was sent.
func open[M interface {
	proto.Message
	comparable
}](resource *discovery.Resource, into M, name func(M) string) error {
	if err := unpack(resource.GetResource(), into); err != nil {
		return err
	}
	if got := name(into); got != resource.GetName() || got == "" {
		return fmt.Errorf("the resource calls itself %q", got)
	}
	return nil
}

// unpack reads a message that says its own type.
func unpack(packed *anypb.Any, into proto.Message) error {
	if packed == nil {
		return errors.New("the resource is empty")
	}
	if !packed.MessageIs(into) {
		return fmt.Errorf("%s instead of %s", packed.GetTypeUrl(), into.ProtoReflect().Descriptor().FullName())
	}
	return packed.UnmarshalTo(into)
}

// readCluster reads a cluster.
func readCluster(resource *discovery.Resource) (Cluster, error) {
	m := &clusterv3.Cluster{}
	if err := open(resource, m, (*clusterv3.Cluster).GetName); err != nil {
		return Cluster{}, err
	}
	out := Cluster{Name: m.GetName(), Type: m.GetType().String(), ConnectTimeout: m.GetConnectTimeout().AsDuration()}
	if custom := m.GetClusterType(); custom != nil {
		out.Type = custom.GetName()
		if packed := custom.GetTypedConfig(); packed.MessageIs((*aggregate.ClusterConfig)(nil)) {
			members := &aggregate.ClusterConfig{}
			if err := packed.UnmarshalTo(members); err != nil {
				return Cluster{}, err
			}
			out.Members = members.GetClusters()
		}
	} else if m.GetType() == clusterv3.Cluster_EDS {
		out.Assignment = cmp.Or(m.GetEdsClusterConfig().GetServiceName(), m.GetName())
	}
	var err error
	if out.Endpoints, err = endpoints(m.GetLoadAssignment()); err != nil {
		return Cluster{}, err
	}
	return out, readTLS(m.GetTransportSocket(), &out)
}

// readTLS reads what a cluster asks for and expects of its peers.
func readTLS(socket *core.TransportSocket, into *Cluster) error {
	packed := socket.GetTypedConfig()
	if packed == nil || !packed.MessageIs((*tlsv3.UpstreamTlsContext)(nil)) {
		return nil
	}
	m := &tlsv3.UpstreamTlsContext{}
	if err := packed.UnmarshalTo(m); err != nil {
		return err
	}
	into.SNI = m.GetSni()
	common := m.GetCommonTlsContext()
	context := common.GetValidationContext()
	if context == nil {
		context = common.GetCombinedValidationContext().GetDefaultValidationContext()
	}
	for _, san := range context.GetMatchTypedSubjectAltNames() {
		text := pattern(san.GetMatcher())
		if san.GetSanType() != tlsv3.SubjectAltNameMatcher_URI {
			text = san.GetSanType().String() + " " + text
		}
		into.SANs = append(into.SANs, text)
	}
	slices.Sort(into.SANs)
	return nil
}

// pattern is what a matcher compares with; of one that is not exact, its kind
// too.
func pattern(m *matcher.StringMatcher) string {
	switch p := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return p.Exact
	case *matcher.StringMatcher_Prefix:
		return "prefix " + p.Prefix
	case *matcher.StringMatcher_Suffix:
		return "suffix " + p.Suffix
	case *matcher.StringMatcher_Contains:
		return "contains " + p.Contains
	case *matcher.StringMatcher_SafeRegex:
		return "regex " + p.SafeRegex.GetRegex()
	}
	return "unknown"
}

// readAssignment reads the endpoints of a cluster.
func readAssignment(resource *discovery.Resource) ([]Endpoint, error) {
	m := &endpointv3.ClusterLoadAssignment{}
	if err := open(resource, m, (*endpointv3.ClusterLoadAssignment).GetClusterName); err != nil {
		return nil, err
	}
	return endpoints(m)
}

// endpoints are those of an assignment, whatever their locality, sorted.
func endpoints(m *endpointv3.ClusterLoadAssignment) ([]Endpoint, error) {
	var out []Endpoint
	for _, locality := range m.GetEndpoints() {
		for _, e := range locality.GetLbEndpoints() {
			at := e.GetEndpoint().GetAddress()
			address, port, path := where(at)
			if address == "" && path == "" {
				return nil, fmt.Errorf("an endpoint has no address: %v", e)
			}
			weight := e.GetLoadBalancingWeight()
			endpoint := Endpoint{Address: address + path, Port: port, Health: e.GetHealthStatus().String(), Weight: 1}
			if weight != nil {
				endpoint.Weight = weight.GetValue()
			}
			out = append(out, endpoint)
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	return out, nil
}

// where takes an address apart: an address and a port, or a path.
func where(a *core.Address) (address string, port uint32, path string) {
	if pipe := a.GetPipe(); pipe != nil {
		return "", 0, pipe.GetPath()
	}
	return a.GetSocketAddress().GetAddress(), a.GetSocketAddress().GetPortValue(), ""
}
