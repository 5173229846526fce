package resource

import (
	"errors"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

func TestApplyLoadBalancer(t *testing.T) {
	for _, test := range []struct{ name, lb, want string }{
		{"nothing", ``, ``},
		{"no policy", `{"hash_policies":[{"source_ip":true}]}`, ``},
		{"round robin", `{"policy":"round_robin"}`, `lb_policy: ROUND_ROBIN`},
		{"random", `{"policy":"random"}`, `lb_policy: RANDOM`},
		{"maglev", `{"policy":"maglev"}`, `lb_policy: MAGLEV`},
		{"least request", `{"policy":"least_request"}`, `lb_policy: LEAST_REQUEST`},
		{
			"of several choices", `{"least_request_config":{"choice_count":5},"policy":"least_request"}`,
			`lb_policy: LEAST_REQUEST least_request_lb_config { choice_count { value: 5 } }`,
		},
		{"of one choice, which Envoy refuses", `{"least_request_config":{"choice_count":1},"policy":"least_request"}`, `lb_policy: LEAST_REQUEST`},
		{
			"ring", `{"policy":"ring_hash","ring_hash_config":{"maximum_ring_size":2000,"minimum_ring_size":7}}`,
			`lb_policy: RING_HASH ring_hash_lb_config { minimum_ring_size { value: 7 } maximum_ring_size { value: 2000 } }`,
		},
		{
			"ring of a least size", `{"policy":"ring_hash","ring_hash_config":{"minimum_ring_size":7}}`,
			`lb_policy: RING_HASH ring_hash_lb_config { minimum_ring_size { value: 7 } }`,
		},
		{
			"ring smaller than Envoy's least", `{"policy":"ring_hash","ring_hash_config":{"maximum_ring_size":9}}`,
			`lb_policy: RING_HASH ring_hash_lb_config { minimum_ring_size { value: 9 } maximum_ring_size { value: 9 } }`,
		},
		{
			"ring larger than Envoy's largest", `{"policy":"ring_hash","ring_hash_config":{"minimum_ring_size":99999999}}`,
			`lb_policy: RING_HASH ring_hash_lb_config { minimum_ring_size { value: 8388608 } }`,
		},
	} {
		want, got := &clusterv3.Cluster{}, &clusterv3.Cluster{}
		if err := prototext.Unmarshal([]byte(test.want), want); err != nil {
			t.Fatal(err)
		}
		if err := applyLoadBalancer(got, []byte(test.lb)); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", test.name, got, err, want)
		}
	}
}

// What cannot be read leaves the cluster as it is, and says so.
func TestApplyLoadBalancerThatCannotBeRead(t *testing.T) {
	for _, test := range []struct {
		lb   string
		want error
	}{{`[`, errBalancer}, {`{"policy":"fastest"}`, errBalancing}, {`{"policy":7}`, errBalancer}} {
		c := &clusterv3.Cluster{}
		if err := applyLoadBalancer(c, []byte(test.lb)); !errors.Is(err, test.want) || !proto.Equal(c, &clusterv3.Cluster{}) {
			t.Errorf("%s: %v, %v", test.lb, c, err)
		}
		if policies := hashPolicies([]byte(test.lb)); policies != nil {
			t.Errorf("%s hashes %v", test.lb, policies)
		}
	}
}

func TestHashPolicies(t *testing.T) {
	for _, test := range []struct{ lb, want string }{
		{`{"hash_policies":[{"source_ip":true}],"policy":"round_robin"}`, ``},
		{`{"hash_policies":[{"source_ip":true,"terminal":true}],"policy":"maglev"}`, `{"connection_properties":{"source_ip":true},"terminal":true}`},
		{`{"hash_policies":[{"field":"cookie","field_value":"c","cookie_config":{"ttl":"30s"}}],"policy":"maglev"}`, `{"cookie":{"name":"c","ttl":"30s"}}`},
		{`{"hash_policies":[{"field":"cookie","field_value":"c","cookie_config":{"ttl":1000000}}],"policy":"maglev"}`, `{"cookie":{"name":"c","ttl":"0.001s"}}`},
		{`{"hash_policies":[{"field":"cookie","field_value":"c","cookie_config":{"session":true}}],"policy":"maglev"}`, `{"cookie":{"name":"c","ttl":"0s"}}`},
		{`{"hash_policies":[{"field":"cookie","field_value":"c"}],"policy":"maglev"}`, `{"cookie":{"name":"c"}}`},
		{`{"hash_policies":[{"field":"colour","field_value":"c"},{"field":"header"}],"policy":"maglev"}`, ``},
	} {
		got := hashPolicies([]byte(test.lb))
		if test.want == "" {
			if got != nil {
				t.Errorf("%s hashes %v", test.lb, got)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s hashes %v", test.lb, got)
			continue
		}
		want := got[0].ProtoReflect().New().Interface()
		if err := protojson.Unmarshal([]byte(test.want), want); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got[0], want) {
			t.Errorf("%s hashes %v, want %v", test.lb, got[0], want)
		}
	}
}
