package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var (
	errBalancer  = errors.New("the load balancer cannot be read")
	errBalancing = errors.New("there is no such policy of load balancing")
)

// loadBalancer is that of a service-resolver.
type loadBalancer struct {
	Policy   string `json:"policy"`
	RingHash struct {
		Minimum uint64 `json:"minimum_ring_size"`
		Maximum uint64 `json:"maximum_ring_size"`
	} `json:"ring_hash_config"`
	LeastRequest struct {
		Choices uint32 `json:"choice_count"`
	} `json:"least_request_config"`
	HashPolicies []hashPolicy `json:"hash_policies"`
}

type hashPolicy struct {
	Field    string `json:"field"`
	Value    string `json:"field_value"`
	SourceIP bool   `json:"source_ip"`
	Terminal bool   `json:"terminal"`
	Cookie   struct {
		Session bool      `json:"session"`
		TTL     cookieTTL `json:"ttl"`
		Path    string    `json:"path"`
	} `json:"cookie_config"`
}

// cookieTTL is written as nanoseconds, or as in "30s".
type cookieTTL time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (d *cookieTTL) UnmarshalJSON(text []byte) error {
	var written string
	if json.Unmarshal(text, &written) != nil {
		return json.Unmarshal(text, (*int64)(d))
	}
	read, err := time.ParseDuration(written)
	*d = cookieTTL(read)
	return err
}

func readBalancer(text []byte) (*loadBalancer, error) {
	out := &loadBalancer{}
	if len(text) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("%w: %w", errBalancer, err)
	}
	return out, nil
}

// applyLoadBalancer has a cluster choose among its endpoints as the service-resolver
// says (Consul agent/xds/clusters.go, injectLBToCluster). Possible errors: one that
// cannot be read, which changes nothing.
func applyLoadBalancer(c *clusterv3.Cluster, loadBalancerJSON []byte) error {
	lb, err := readBalancer(loadBalancerJSON)
	if err != nil {
		return err
	}
	switch lb.Policy {
	case "":
	case "least_request":
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		if n := lb.LeastRequest.Choices; n >= fewestChoices {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{
				ChoiceCount: wrapperspb.UInt32(n),
			}}
		}
	case "round_robin":
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	case "random":
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case "ring_hash":
		c.LbPolicy = clusterv3.Cluster_RING_HASH
		if low, high := lb.ringSizes(); low != nil || high != nil {
			c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
				MinimumRingSize: low, MaximumRingSize: high,
			}}
		}
	case "maglev":
		c.LbPolicy = clusterv3.Cluster_MAGLEV
	default:
		return fmt.Errorf("%s: %w", lb.Policy, errBalancing)
	}
	return nil
}

const (
	// fewestChoices and largestRing are what an Envoy takes, and smallestRing is what it
	// takes by itself.
	fewestChoices = 2
	smallestRing  = 1024
	largestRing   = 8 << 20
)

// ringSizes are those that are set, held to what an Envoy takes: the least size is never
// above the largest.
func (lb *loadBalancer) ringSizes() (low, high *wrapperspb.UInt64Value) {
	least, most := min(lb.RingHash.Minimum, largestRing), min(lb.RingHash.Maximum, largestRing)
	if most > 0 {
		high = wrapperspb.UInt64(most)
		if least == 0 && most < smallestRing {
			least = most
		}
		least = min(least, most)
	}
	if least > 0 {
		low = wrapperspb.UInt64(least)
	}
	return low, high
}

// hashPolicies are what of a request the endpoint is chosen by, where the policy hashes
// (Consul agent/xds/routes.go, injectLBToRouteAction). What cannot be read is left out:
// then the choice is random.
func hashPolicies(loadBalancerJSON []byte) []*routev3.RouteAction_HashPolicy {
	lb, err := readBalancer(loadBalancerJSON)
	if err != nil || lb.Policy != "ring_hash" && lb.Policy != "maglev" {
		return nil
	}
	var out []*routev3.RouteAction_HashPolicy
	for _, p := range lb.HashPolicies {
		policy := &routev3.RouteAction_HashPolicy{Terminal: p.Terminal}
		switch {
		case p.SourceIP:
			policy.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{
				ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
			}
		case p.Value == "":
			continue
		case p.Field == "header" && headerName(p.Value):
			policy.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: p.Value}}
		case p.Field == "cookie":
			policy.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{Cookie: p.cookie()}
		case p.Field == "query_parameter":
			policy.PolicySpecifier = &routev3.RouteAction_HashPolicy_QueryParameter_{
				QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: p.Value},
			}
		default:
			continue
		}
		out = append(out, policy)
	}
	return out
}

// cookie is one that an Envoy makes, where it has to; of a session where its time is zero.
func (p *hashPolicy) cookie() *routev3.RouteAction_HashPolicy_Cookie {
	out := &routev3.RouteAction_HashPolicy_Cookie{Name: p.Value, Path: p.Cookie.Path}
	switch ttl := time.Duration(p.Cookie.TTL); {
	case p.Cookie.Session:
		out.Ttl = durationpb.New(0)
	case ttl > 0:
		out.Ttl = durationpb.New(min(ttl, longestTimeout))
	}
	return out
}
