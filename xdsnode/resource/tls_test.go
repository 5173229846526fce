package resource_test

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// A target whose identity is not known is nobody: an Envoy that is told no name takes
// whomever the roots vouch for.
func TestATargetWithoutAnIdentityIsNobody(t *testing.T) {
	for _, ids := range [][]string{nil, {"spiffe://td/ns/default/dc/dc1/svc/api"}} {
		outbound, _ := resource.OutboundOf(&isthmusv1.ProxyRoutes{})
		made := resource.Upstreams(&isthmusv1.RouteSet{Routes: []*isthmusv1.Route{{
			Id: "q", Destination: &isthmusv1.ServiceRef{Name: "q"}, DestinationType: "prepared_query", Datacenter: "dc1", Protocol: "tcp",
			Targets: []*isthmusv1.Target{{Id: "q", Service: &isthmusv1.ServiceRef{Name: "q"}, Datacenter: "dc1", Sni: "q.default.dc1.query.td", SpiffeIds: ids}},
			Chain: &isthmusv1.Chain{Start: "r", IsDefault: true, Nodes: []*isthmusv1.ChainNode{{
				Name: "r", Node: &isthmusv1.ChainNode_Resolver{Resolver: &isthmusv1.ChainResolver{Target: "q"}},
			}}},
		}}}, outbound, func(*isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet { return nil })
		c, context := &clusterv3.Cluster{}, &tlsv3.UpstreamTlsContext{}
		if err := made[0].Clusters[0].Body.UnmarshalTo(c); err != nil {
			t.Fatal(err)
		}
		if err := c.GetTransportSocket().GetTypedConfig().UnmarshalTo(context); err != nil {
			t.Fatal(err)
		}
		names := context.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames()
		if len(names) != 1 || len(ids) == 1 && names[0].GetMatcher().GetExact() != ids[0] || names[0].GetMatcher().GetExact() == "" {
			t.Errorf("of %q it wants %v", ids, names)
		}
	}
}
