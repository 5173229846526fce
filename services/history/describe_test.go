package history_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

func mode(m string) *isthmusv1.MeshGateway { return &isthmusv1.MeshGateway{Mode: m} }

func defaults(d *isthmusv1.ServiceDefaults) *isthmusv1.ConfigEntry {
	return &isthmusv1.ConfigEntry{Kind: "service-defaults", Name: "web", Entry: &isthmusv1.ConfigEntry_ServiceDefaults{ServiceDefaults: d}}
}

func TestDescribe(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b proto.Message
		want []string
	}{
		{"equal", &isthmusv1.Node{Name: "a"}, &isthmusv1.Node{Name: "a"}, nil},
		{"a text", &isthmusv1.Node{Address: "10.0.0.1"}, &isthmusv1.Node{Address: "10.0.0.2"}, []string{"address 10.0.0.1 → 10.0.0.2"}},
		{"a number", &isthmusv1.ServiceInstance{Port: 80}, &isthmusv1.ServiceInstance{Port: 81}, []string{"port 80 → 81"}},
		{"set and taken away", &isthmusv1.Node{Id: "x"}, &isthmusv1.Node{Partition: "p"}, []string{"id x → –", "partition – → p"}},
		{"within an entry, without the entry's kind", defaults(&isthmusv1.ServiceDefaults{MeshGateway: mode("local")}),
			defaults(&isthmusv1.ServiceDefaults{MeshGateway: mode("remote")}), []string{"mesh gateway mode local → remote"}},
		{"an empty block", defaults(&isthmusv1.ServiceDefaults{}), defaults(&isthmusv1.ServiceDefaults{MeshGateway: mode("")}), []string{"mesh gateway set"}},
		{"an empty block taken away", defaults(&isthmusv1.ServiceDefaults{MeshGateway: mode("")}), defaults(&isthmusv1.ServiceDefaults{}), []string{"mesh gateway taken away"}},
		{"items of a list by what names them",
			&isthmusv1.ServiceInstance{Checks: []*isthmusv1.Check{{CheckId: "http", Status: "passing"}, {CheckId: "tcp"}}},
			&isthmusv1.ServiceInstance{Checks: []*isthmusv1.Check{{CheckId: "disk", Status: "critical"}, {CheckId: "http", Status: "critical"}}},
			[]string{"checks disk added (status critical)", "checks http status passing → critical", "checks tcp removed"}},
		{"items without a name, and twice the same",
			&isthmusv1.Proxy{Upstreams: []*isthmusv1.Upstream{{DestinationName: "api", LocalBindPort: 1}, {DestinationName: "api", LocalBindPort: 2}}},
			&isthmusv1.Proxy{Upstreams: []*isthmusv1.Upstream{{DestinationName: "api", LocalBindPort: 1}, {DestinationName: "api", LocalBindPort: 3}}},
			[]string{"upstreams api #2 local bind port 2 → 3"}},
		{"texts of a list", &isthmusv1.ServiceInstance{Tags: []string{"a", "b"}}, &isthmusv1.ServiceInstance{Tags: []string{"b", "c"}}, []string{"tags +c", "tags −a"}},
		{"the order of a list", &isthmusv1.ServiceInstance{Tags: []string{"a", "b"}}, &isthmusv1.ServiceInstance{Tags: []string{"b", "a"}}, []string{"tags in another order"}},
		{"opaque config", &isthmusv1.Upstream{ConfigJson: []byte(`{"a":1}`)}, &isthmusv1.Upstream{ConfigJson: []byte(`{"a":2}`)}, []string{`config {"a":1} → {"a":2}`}},
		{"a duration", &isthmusv1.NameRoute{ConnectTimeout: durationpb.New(time.Second)}, &isthmusv1.NameRoute{ConnectTimeout: durationpb.New(90 * time.Second)},
			[]string{"connect timeout 1s → 1m30s"}},
		{"an enumeration", &isthmusv1.EndpointSet{Availability: isthmusv1.Availability_AVAILABILITY_HEALTHY}, &isthmusv1.EndpointSet{Availability: isthmusv1.Availability_AVAILABILITY_EMPTY},
			[]string{"availability healthy → empty"}},
		{"a long text", &isthmusv1.Node{Address: strings.Repeat("é", 100)}, &isthmusv1.Node{Address: "b"}, []string{"address " + strings.Repeat("é", 60) + "… → b"}},
		{"another kind of entry", &isthmusv1.Node{}, &isthmusv1.Check{}, []string{"it is of another kind"}},
		{"nothing known", nil, nil, nil},
		{"not known", nil, &isthmusv1.Node{}, []string{"its value is of a kind that this version does not know"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := history.Describe(tt.a, tt.b); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestDescribeSeesUnknownFields(t *testing.T) {
	newer := new(isthmusv1.Node)
	// Field 999, a varint: what a later version may say.
	if err := proto.Unmarshal([]byte{0xb8, 0x3e, 0x01}, newer); err != nil {
		t.Fatal(err)
	}
	if got := history.Describe(&isthmusv1.Node{}, newer); len(got) != 1 || !strings.Contains(got[0], "does not know") {
		t.Errorf("%q", got)
	}
}

// A difference is told exactly when there is one, and the same way each time.
func TestDescribeTellsEveryDifference(t *testing.T) {
	node := rapid.Custom(func(t *rapid.T) *isthmusv1.ServiceInstance {
		word := rapid.SampledFrom([]string{"", "a", "b"})
		s := &isthmusv1.ServiceInstance{Name: word.Draw(t, "name"), Address: word.Draw(t, "address"), Port: rapid.Uint32Range(0, 2).Draw(t, "port")}
		s.Tags = rapid.SliceOfN(word, 0, 2).Draw(t, "tags")
		for range rapid.IntRange(0, 2).Draw(t, "checks") {
			s.Checks = append(s.Checks, &isthmusv1.Check{CheckId: word.Draw(t, "id"), Status: word.Draw(t, "status")})
		}
		if rapid.Bool().Draw(t, "proxied") {
			s.Proxy = &isthmusv1.Proxy{MeshGateway: mode(word.Draw(t, "mode"))}
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := node.Draw(t, "a"), node.Draw(t, "b")
		got := history.Describe(a, b)
		if tagsOnly := slices.Equal(a.GetTags(), b.GetTags()); tagsOnly && (len(got) == 0) != proto.Equal(a, b) && len(a.GetChecks()) == 0 && len(b.GetChecks()) == 0 {
			t.Fatalf("%q between %v and %v", got, a, b)
		}
		if again := history.Describe(a, b); !slices.Equal(got, again) {
			t.Fatalf("%q, then %q", got, again)
		}
		if len(history.Describe(a, proto.CloneOf(a))) != 0 {
			t.Fatal("a copy differs")
		}
	})
}
