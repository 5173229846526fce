package client

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// Snapshot is all that was accepted, at one moment. It must not be written to.
type Snapshot struct {
	// Clusters and Listeners by name.
	Clusters  map[string]Cluster
	Listeners map[string]Listener
	// Endpoints by what clusters name as their Assignment, sorted. One without
	// endpoints is there and empty; one that was never sent is not there.
	Endpoints map[string][]Endpoint
	// Routes are the clusters that requests go to, sorted, by what filter chains name
	// as their Route.
	Routes map[string][]string
	// Bodies are all these as they were sent.
	Bodies Bodies
	// Refused are the answers that were not accepted, in order.
	Refused []Refusal

	answeredClusters, answeredListeners bool
}

// Complete reports whether nothing is missing: clusters and listeners were
// answered, and each cluster that has its endpoints sent has them, and each filter
// chain its routes.
func (s *Snapshot) Complete() bool {
	return s.Answered() && len(s.Unassigned()) == 0 && len(s.Unrouted()) == 0
}

// Unrouted are the routes that filter chains name and that were never sent, sorted.
func (s *Snapshot) Unrouted() []string {
	var names []string
	for name := range sorted(s.routes()) {
		if _, ok := s.Routes[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// assignments are what clusters name as theirs.
func (s *Snapshot) assignments() map[string]bool {
	out := make(map[string]bool)
	for _, cluster := range s.Clusters {
		if cluster.Assignment != "" {
			out[cluster.Assignment] = true
		}
	}
	return out
}

// routes are what filter chains name as theirs.
func (s *Snapshot) routes() map[string]bool {
	out := make(map[string]bool)
	for _, listener := range s.Listeners {
		for _, chain := range listener.Chains {
			if chain.Route != "" {
				out[chain.Route] = true
			}
		}
	}
	return out
}

// Answered reports whether clusters and listeners were answered, be it with none.
func (s *Snapshot) Answered() bool { return s.answeredClusters && s.answeredListeners }

// Unassigned are the clusters whose endpoints were never sent, by name, sorted.
func (s *Snapshot) Unassigned() []string {
	var names []string
	for name, cluster := range sorted(s.Clusters) {
		if _, ok := s.Endpoints[cluster.Assignment]; cluster.Assignment != "" && !ok {
			names = append(names, name)
		}
	}
	return names
}

// EndpointsOf are a cluster's endpoints, wherever they come from; ok is false
// while they have not been sent.
func (s *Snapshot) EndpointsOf(cluster string) (endpoints []Endpoint, ok bool) {
	c, ok := s.Clusters[cluster]
	if !ok || c.Assignment == "" {
		return c.Endpoints, ok
	}
	endpoints, ok = s.Endpoints[c.Assignment]
	return endpoints, ok
}

// Bodies are resources by type URL and name. They may hold certificates and keys, so
// that they are not printed.
type Bodies map[string]map[string]*anypb.Any

// String says how many there are, and no more.
func (b Bodies) String() string {
	n := 0
	for _, resources := range b {
		n += len(resources)
	}
	return fmt.Sprintf("%d resources", n)
}

// Cluster is where connections go to.
type Cluster struct {
	Name string
	// Type is STATIC, STRICT_DNS, LOGICAL_DNS, EDS or ORIGINAL_DST, or the name of
	// an extension, like envoy.clusters.aggregate.
	Type string
	// SNI is asked for; empty without TLS.
	SNI string
	// SANs of which the peer must show one: exact URIs, sorted. A matcher of
	// another kind stands as its kind and text.
	SANs           []string
	ConnectTimeout time.Duration
	// Members are the clusters of an aggregate, in order of preference.
	Members []string
	// Assignment names the endpoints if they are sent by themselves.
	Assignment string
	// Endpoints are those that stand in the cluster itself, sorted.
	Endpoints []Endpoint
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	Address string
	Port    uint32
	// Health is HEALTHY, UNHEALTHY, DRAINING, TIMEOUT, DEGRADED or UNKNOWN.
	Health string
	// Weight is 1 if none is given.
	Weight uint32
}

// Listener is where connections come from.
type Listener struct {
	Name    string
	Address string
	Port    uint32
	// Path is that of a unix socket, instead of address and port.
	Path string
	// Chains in their order, the default one last.
	Chains []Chain
}

// Chain is one filter chain of a listener.
type Chain struct {
	// ServerNames that lead here; none: whatever has no chain of its own.
	ServerNames []string
	// Targets are the clusters that connections or requests go to, sorted; none if
	// that is decided elsewhere: by Route, or ByServerName.
	Targets []string
	// Route names the routes, if they are sent by themselves.
	Route string
	// ByServerName: the cluster is the one that the server name names.
	ByServerName bool
}

// Refusal is an answer that was not accepted.
type Refusal struct {
	// TypeURL and Nonce are the answer's.
	TypeURL, Nonce string
	// Why is what the control plane was told.
	Why string
}
