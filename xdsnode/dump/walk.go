package dump

import (
	"fmt"
	"net"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// sniCluster is the filter that takes the server name as the name of the cluster.
const sniCluster = "envoy.filters.network.sni_cluster"

// walk tells of each place to which a message leads: its clusters, routes and addresses,
// whatever kinds of filters and routes they stand in.
func walk(m protoreflect.Message, tell func(string)) {
	switch v := m.Interface().(type) {
	case *anypb.Any:
		if inner, err := v.UnmarshalNew(); err == nil {
			walk(inner.ProtoReflect(), tell)
		}
		return
	case *clusterv3.Cluster:
		if v.GetType() == clusterv3.Cluster_EDS {
			tell("its endpoints")
			return // Health checks and the like lead nowhere else.
		}
		if a := v.GetLoadAssignment(); a != nil {
			walk(a.ProtoReflect(), tell)
		}
		return
	case *listenerv3.Filter:
		if v.GetName() == sniCluster {
			tell("the cluster of the server name")
		}
	case *endpointv3.LbEndpoint:
		tell(endpointText(v))
		return
	case *listenerv3.Listener:
		for _, chain := range v.GetFilterChains() {
			walk(chain.ProtoReflect(), tell)
		}
		if chain := v.GetDefaultFilterChain(); chain != nil {
			walk(chain.ProtoReflect(), tell)
		}
		return
	}
	walkFields(m, tell)
}

// walkFields tells of the fields that name a cluster or a route, in the order of the
// model, and walks into the others.
func walkFields(m protoreflect.Message, tell func(string)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		value := m.Get(field)
		switch {
		case field.Name() == "cluster" && field.Kind() == protoreflect.StringKind:
			if value.String() != "" { // Else another filter says which.
				tell("cluster " + value.String())
			}
		case field.Name() == "route_config_name":
			tell("route " + value.String())
		case field.IsMap():
			// No map of these models leads anywhere.
		case field.IsList() && field.Message() != nil:
			for j := range value.List().Len() {
				walk(value.List().Get(j).Message(), tell)
			}
		case field.Message() != nil:
			walk(value.Message(), tell)
		case field.Name() == "name" && m.Descriptor().Name() == "ClusterWeight":
			tell("cluster " + value.String())
		}
	}
}

// endpointText is an endpoint for people, with what is wrong with it.
func endpointText(e *endpointv3.LbEndpoint) string {
	address := e.GetEndpoint().GetAddress()
	text := address.GetPipe().GetPath()
	if s := address.GetSocketAddress(); s != nil {
		text = net.JoinHostPort(s.GetAddress(), strconv.FormatUint(uint64(s.GetPortValue()), 10))
	}
	if h := e.GetHealthStatus(); h != core.HealthStatus_UNKNOWN && h != core.HealthStatus_HEALTHY {
		text += fmt.Sprintf(" (%s)", h)
	}
	return text
}
