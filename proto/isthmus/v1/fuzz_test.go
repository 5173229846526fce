package isthmusv1_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// fuzzedKinds are all kinds of values.
var fuzzedKinds = []isthmusv1.Kind{
	isthmusv1.KindWriter, isthmusv1.KindNode, isthmusv1.KindInstance, isthmusv1.KindConfig, isthmusv1.KindRoots,
	isthmusv1.KindMeshFacts, isthmusv1.KindPreparedQuery, isthmusv1.KindBasis, isthmusv1.KindEndpoint, isthmusv1.KindInbound,
	isthmusv1.KindRouteSet, isthmusv1.KindProxy, isthmusv1.KindName, isthmusv1.KindWildcard, isthmusv1.KindMesh, isthmusv1.KindReport,
}

// FuzzValue: what is read as a value is written as the same value, in one way
// only, with fields that this version does not know; and the rules on values can
// be asked about any of them.
func FuzzValue(f *testing.F) {
	for i, kind := range fuzzedKinds {
		v := isthmusv1.NewValue(kind)
		f.Add(byte(i), []byte{})
		f.Add(byte(i), []byte("\xfa\x7f\x03new"))
		switch v := v.(type) {
		case *isthmusv1.ServiceInstance:
			v.Node, v.Name, v.Id, v.Kind = "n", "web-proxy", "web-proxy", isthmusv1.InstanceKindProxy
			v.Proxy = &isthmusv1.Proxy{DestinationServiceName: "web", Upstreams: []*isthmusv1.Upstream{{DestinationName: "api", LocalBindPort: 1}}}
		case *isthmusv1.ConfigEntry:
			v.Kind, v.Name = "service-intentions", "api"
			v.Entry = &isthmusv1.ConfigEntry_ServiceIntentions{ServiceIntentions: &isthmusv1.ServiceIntentions{
				Sources: []*isthmusv1.SourceIntention{{Name: "*", Action: "deny"}},
			}}
		case *isthmusv1.Inbound:
			v.DefaultAction = "allow"
			v.Intentions = []*isthmusv1.InboundIntention{{Source: &isthmusv1.ServiceRef{Name: "web"}, Action: "deny"}}
		}
		text, err := isthmusv1.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), text)
	}
	f.Fuzz(func(t *testing.T, kind byte, text []byte) {
		v := isthmusv1.NewValue(fuzzedKinds[int(kind)%len(fuzzedKinds)])
		if proto.Unmarshal(text, v) != nil {
			return
		}
		written, err := isthmusv1.Marshal(v)
		if err != nil {
			t.Fatalf("%v cannot be written: %v", v, err)
		}
		again := isthmusv1.NewValue(fuzzedKinds[int(kind)%len(fuzzedKinds)])
		if err := proto.Unmarshal(written, again); err != nil || !proto.Equal(v, again) {
			t.Fatalf("%v comes back as %v, %v", v, again, err)
		}
		if twice, err := isthmusv1.Marshal(again); err != nil || !bytes.Equal(written, twice) {
			t.Fatalf("written as %x and as %x, %v", written, twice, err)
		}
		rulesHold(t, v, again)
	})
}

// rulesHold asks the rules about a value and its copy: they answer alike, and
// every violation says where, what and what to do.
func rulesHold(t *testing.T, v, again proto.Message) {
	t.Helper()
	if in, ok := v.(*isthmusv1.Inbound); ok {
		for _, i := range append(in.GetIntentions(), nil) {
			found := in.Match(i.GetSource())
			if found != nil && !slices.Contains(in.GetIntentions(), found) || found.GetPeer() != "" {
				t.Errorf("%v is decided by %v", i, found)
			}
			if allowed, byRequest := in.Allows(i.GetSource()); allowed && (byRequest || found == nil && in.GetDefaultAction() != "allow") {
				t.Errorf("%v is allowed, by request %v", i, byRequest)
			}
		}
	}
	type validator interface {
		Validate() isthmusv1.Violations
	}
	one, ok := v.(validator)
	other, _ := again.(validator)
	if !ok {
		return
	}
	violations := one.Validate()
	if !slices.Equal(violations, other.Validate()) {
		t.Errorf("of one value %v and %v", violations, other.Validate())
	}
	for _, violation := range violations {
		if violation.Text == "" {
			t.Errorf("%+v says nothing", violation)
		}
	}
}
