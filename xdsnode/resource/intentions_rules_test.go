package resource_test

import (
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// An intention that asks for a token lets nobody in, also while the proxy and the
// intentions are of two minds about whether the service is HTTP, as during a change.
func TestTokensLetNobodyIn(t *testing.T) {
	for _, protocol := range []string{"tcp", "http"} {
		for _, byDefault := range []string{"allow", "deny"} {
			in := &isthmusv1.Inbound{
				DefaultAction: byDefault, TrustDomain: trustDomain, Protocol: protocol,
				Intentions: []*isthmusv1.InboundIntention{{Source: &isthmusv1.ServiceRef{Name: "web"}, Action: "allow", JwtJson: []byte("7")}},
			}
			for kind, config := range map[string]*anypb.Any{
				"network": resource.NetworkIntentions(in).GetTypedConfig(), "http": resource.HTTPIntentions(in).GetTypedConfig(),
			} {
				if kind == "network" && protocol == "tcp" {
					continue // There is no request that a token could come with, and Consul asks for none.
				}
				made := rules(config)
				if envoyAllows(made, request{id: "spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/web", path: "/", method: "GET"}) {
					t.Errorf("%s, by default %s, of a service of %s: allows by %s", kind, byDefault, protocol, prototext.Format(made))
				}
			}
		}
	}
}

// Of few names, so that intentions are often about the same sources, the verdict about
// each source is that of the intentions as they are written; and the filters are ones that
// Envoy takes.
func TestIntentionsThatMeet(t *testing.T) {
	var sources []*isthmusv1.ServiceRef
	for _, name := range []string{"web", "API"} {
		for _, namespace := range []string{"", "team"} {
			for _, partition := range []string{"", "p1", "*"} {
				sources = append(sources, &isthmusv1.ServiceRef{Name: name, Namespace: namespace, Partition: partition})
			}
		}
	}
	asked := []request{{method: "GET", path: "/a"}, {method: "PUT", path: "/", headers: map[string]string{"x-a": "a"}}}
	rapid.Check(t, func(t *rapid.T) {
		in := &isthmusv1.Inbound{DefaultAction: pick(t, "default", "allow", "deny"), TrustDomain: trustDomain, Protocol: pick(t, "protocol", "tcp", "http")}
		for range rapid.IntRange(1, 6).Draw(t, "intentions") {
			i := &isthmusv1.InboundIntention{Action: pick(t, "action", "allow", "deny"), Source: &isthmusv1.ServiceRef{
				Name: pick(t, "name", "web", "Web", "api", "*", "*"), Namespace: pick(t, "namespace", "", "team", "Team", "*", "*"),
				Partition: pick(t, "partition", "", "", "", "default", "P1", "*"),
			}}
			if pick(t, "by request", false, false, true) {
				i.Permissions = rapid.SliceOfN(rapid.Custom(drawPermission), 1, 3).Draw(t, "permissions")
			}
			in.Intentions = append(in.Intentions, i)
		}
		http := in.GetProtocol() == "http"
		config := resource.NetworkIntentions(in).GetTypedConfig()
		if http {
			config = resource.HTTPIntentions(in).GetTypedConfig()
		}
		made := rules(config)
		if err := made.Validate(); err != nil {
			t.Fatalf("Envoy refuses %s: %v", prototext.Format(made), err)
		}
		for _, source := range sources {
			for _, r := range asked {
				r.id = isthmusv1.SPIFFEID(source, "dc1", trustDomain)
				if got, want := envoyAllows(made, r), reading(in, source, r, http); got != want {
					t.Fatalf("%v asks %+v: allowed %v, want %v, by\n%s\nof\n%s", source, r, got, want, prototext.Format(made), prototext.Format(in))
				}
			}
		}
	})
}

// What is easily lost in a policy: each stands for a rule of its own.
func TestIntentionsOneByOne(t *testing.T) {
	for _, one := range []struct {
		what, written string
		source        *isthmusv1.ServiceRef
		want          bool
	}{
		{"what is written twice is decided by the first", `intentions { source { name: "web" } action: "deny" } intentions { source { name: "Web" } action: "allow" }`, service("web"), false},
		{"a namespace decides without case", `intentions { source { name: "*" namespace: "Team" } action: "deny" } intentions { source { name: "web" namespace: "team" } action: "allow" }`, of("team", "web"), false},
		{"the default partition in another case", `intentions { source { name: "web" partition: "Default" } action: "allow" }`, service("web"), true},
		{"a partition decides without case", `intentions { source { name: "*" partition: "P1" } action: "deny" } intentions { source { name: "web" partition: "p1" } action: "allow" }`, &isthmusv1.ServiceRef{Name: "web", Partition: "p1"}, false},
		{"one name of all namespaces is not all names", `intentions { source { name: "web" namespace: "*" } action: "deny" } intentions { source { name: "api" } action: "allow" }`, service("api"), true},
		{"one name is excepted from that name everywhere", `intentions { source { name: "Web" namespace: "team" } action: "deny" } intentions { source { name: "web" namespace: "*" } action: "allow" }`, of("team", "web"), false},
		{"all names of a namespace are excepted from one name everywhere", `intentions { source { name: "*" namespace: "team" } action: "deny" } intentions { source { name: "web" namespace: "*" } action: "allow" }`, of("team", "web"), false},
		{"a namespace that is not excepted", `intentions { source { name: "*" namespace: "team" } action: "deny" } intentions { source { name: "web" namespace: "*" } action: "allow" }`, service("web"), true},
		{"one that allows nothing hides none", `intentions { source { name: "api" } permissions { action: "allow" path_regex: "(" } } intentions { source { name: "web" } action: "allow" }`, service("web"), true},
		{"a part that is not understood, before one that is", `intentions { source { name: "web" } permissions { action: "allow" path_regex: "(" methods: "GET" } }`, service("web"), false},
		{"permissions where nobody sees requests", `protocol: "tcp" intentions { source { name: "web" } action: "allow" permissions { action: "allow" path_prefix: "/" } }`, service("web"), false},
	} {
		in := &isthmusv1.Inbound{}
		if err := prototext.Unmarshal([]byte(one.written), in); err != nil {
			t.Fatalf("%s: %v", one.what, err)
		}
		in.TrustDomain, in.DefaultAction = trustDomain, "deny"
		config := resource.HTTPIntentions(in).GetTypedConfig()
		if in.GetProtocol() == "tcp" {
			config = resource.NetworkIntentions(in).GetTypedConfig()
		}
		made := rules(config)
		if err := made.Validate(); err != nil {
			t.Errorf("%s: Envoy refuses %s: %v", one.what, prototext.Format(made), err)
		}
		r := request{id: isthmusv1.SPIFFEID(one.source, "dc1", trustDomain), method: "GET", path: "/"}
		if got := envoyAllows(made, r); got != one.want {
			t.Errorf("%s: allowed %v, by %s", one.what, got, prototext.Format(made))
		}
	}
}

// A principal excepts who was decided before, and no more than that: not who is none of its
// sources, and none that another exception covers. Large meshes come to large expressions.
func TestExceptionsAreFew(t *testing.T) {
	for _, one := range []struct {
		what, written string
		exceptions    int
	}{
		{"nobody before", `intentions { source { name: "*" } action: "allow" }`, 0},
		{"one of another namespace", `intentions { source { name: "web" namespace: "team" } action: "deny" } intentions { source { name: "*" } action: "allow" }`, 0},
		{"one of another name", `intentions { source { name: "web" } action: "deny" } intentions { source { name: "api" namespace: "*" } action: "allow" }`, 0},
		{"one of its namespace", `intentions { source { name: "web" } action: "deny" } intentions { source { name: "*" } action: "allow" }`, 1},
		{"one that another covers", `intentions { source { name: "web" } action: "deny" } intentions { source { name: "*" } action: "deny" } intentions { source { name: "*" namespace: "*" } action: "allow" }`, 1},
	} {
		in := &isthmusv1.Inbound{TrustDomain: trustDomain, DefaultAction: "deny"}
		if err := prototext.Unmarshal([]byte(one.written), in); err != nil {
			t.Fatalf("%s: %v", one.what, err)
		}
		in.TrustDomain, in.DefaultAction = trustDomain, "deny"
		principals := rules(resource.NetworkIntentions(in).GetTypedConfig()).GetPolicies()["consul-intentions-layer4"].GetPrincipals()
		if len(principals) != 1 {
			t.Fatalf("%s: the principals are %v", one.what, principals)
		}
		if got := max(0, len(principals[0].GetAndIds().GetIds())-1); got != one.exceptions {
			t.Errorf("%s: %d exceptions, and should be %d: %v", one.what, got, one.exceptions, principals[0])
		}
	}
}

// Policies by request are numbered as Consul numbers them: those that are left out, since
// they say what the default says, do not count (Consul agent/xds/rbac.go).
func TestPoliciesAreNumbered(t *testing.T) {
	in := &isthmusv1.Inbound{}
	if err := prototext.Unmarshal([]byte(`default_action: "deny" trust_domain: "t.consul" protocol: "http"
	   intentions { source { name: "a" } action: "deny" }
	   intentions { source { name: "b" } permissions { action: "deny" path_prefix: "/" } }
	   intentions { source { name: "c" } permissions { action: "allow" path_prefix: "/" } }
	   intentions { source { name: "d" } action: "allow" }
	   intentions { source { name: "e" } permissions { action: "allow" path_prefix: "/" } }`), in); err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(maps.Keys(rules(resource.HTTPIntentions(in).GetTypedConfig()).GetPolicies()))
	if want := []string{"consul-intentions-layer4", "consul-intentions-layer7-0", "consul-intentions-layer7-2"}; !slices.Equal(got, want) {
		t.Errorf("the policies are %q, and should be %q", got, want)
	}
}

func service(name string) *isthmusv1.ServiceRef { return &isthmusv1.ServiceRef{Name: name} }

func of(namespace, name string) *isthmusv1.ServiceRef {
	return &isthmusv1.ServiceRef{Name: name, Namespace: namespace}
}
