package resource_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

const trustDomain = "11111111-2222-3333-4444-555555555555.consul"

// pick draws one of a few.
func pick[T any](t *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(t, label) }

func drawRef(t *rapid.T, open bool) *isthmusv1.ServiceRef {
	ref := &isthmusv1.ServiceRef{
		Name:      pick(t, "name", "web", "Web", "api", "a.b", "aXb", "a,b", "a+b", "ü"),
		Namespace: pick(t, "namespace", "", "", "default", "team"),
		Partition: pick(t, "partition", "", "", "default", "p1", "P1"),
	}
	if open && rapid.Bool().Draw(t, "any name") {
		ref.Name = "*"
		if rapid.Bool().Draw(t, "any namespace") {
			ref.Namespace = "*"
		}
	}
	return ref
}

func drawHeader(t *rapid.T) *isthmusv1.HeaderMatch {
	h := &isthmusv1.HeaderMatch{
		Name:   pick(t, "header", "x-a", "x-b"),
		Invert: rapid.Bool().Draw(t, "invert"), IgnoreCase: rapid.Bool().Draw(t, "ignore case"),
	}
	text := pick(t, "text", "a", "B", "ab")
	switch pick(t, "by", "present", "exact", "prefix", "suffix", "contains", "regex", "nothing") {
	case "present":
		h.Present = true
	case "exact":
		h.Exact = text
	case "prefix":
		h.Prefix = text
	case "suffix":
		h.Suffix = text
	case "contains":
		h.Contains = text
	case "regex":
		h.Regex = pick(t, "regex", "a.*", "(", "a|B")
	}
	return h
}

func drawPermission(t *rapid.T) *isthmusv1.IntentionPermission {
	p := &isthmusv1.IntentionPermission{Action: pick(t, "permission", "allow", "deny")}
	switch pick(t, "path by", "exact", "prefix", "regex", "nothing") {
	case "exact":
		p.PathExact = pick(t, "path", "/", "/a", "/a/b")
	case "prefix":
		p.PathPrefix = pick(t, "path", "/", "/a")
	case "regex":
		p.PathRegex = pick(t, "path", "/a|/b", "/.*b", "(", `\p{Letter}(`)
	}
	p.Headers = rapid.SliceOfN(rapid.Custom(drawHeader), 0, 2).Draw(t, "headers")
	p.Methods = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"GET", "PUT"}), 0, 2, rapid.ID).Draw(t, "methods")
	if pick(t, "token", false, false, false, true) {
		p.JwtJson = []byte(`{"providers":[{"name":"okta"}]}`)
	}
	return p
}

func drawInbound(t *rapid.T) *isthmusv1.Inbound {
	in := &isthmusv1.Inbound{
		DefaultAction: pick(t, "default", "allow", "deny"), TrustDomain: trustDomain,
		Protocol: pick(t, "protocol", "tcp", "http"),
	}
	for range rapid.IntRange(0, 5).Draw(t, "intentions") {
		i := &isthmusv1.InboundIntention{Source: drawRef(t, true), Action: pick(t, "action", "allow", "deny", "ask")}
		if pick(t, "peered", false, false, false, true) {
			i.Peer = "other"
		}
		if pick(t, "tokens", false, false, false, true) {
			i.JwtJson = []byte(`{"providers":[{"name":"okta"}]}`)
		}
		if rapid.Bool().Draw(t, "by request") {
			i.Action, i.Permissions = "", rapid.SliceOfN(rapid.Custom(drawPermission), 1, 3).Draw(t, "permissions")
		}
		in.Intentions = append(in.Intentions, i)
	}
	return in
}

func drawRequest(t *rapid.T, source *isthmusv1.ServiceRef) request {
	r := request{
		id:     isthmusv1.SPIFFEID(source, pick(t, "datacenter", "dc1", "dc2"), trustDomain),
		method: pick(t, "method", "GET", "PUT", "POST"), path: pick(t, "asked", "/", "/a", "/a/b", "/b", "/ab?/a"),
		headers: map[string]string{},
	}
	for _, name := range []string{"x-a", "x-b"} {
		if rapid.Bool().Draw(t, name) {
			r.headers[name] = pick(t, "value", "", "a", "A", "ab", "b", "xB")
		}
	}
	return r
}

// Envoy's verdict by the filters that are made of intentions is that of the intentions
// as they are written, and of a service that is not HTTP also the Go sidecar's, which
// goes by Inbound.Allows.
func TestIntentionsHoldInEnvoy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInbound(t)
		http := in.GetProtocol() == "http"
		var filter interface{ GetTypedConfig() *anypb.Any } = resource.NetworkIntentions(in)
		if http {
			filter = resource.HTTPIntentions(in)
		}
		made := rules(filter.GetTypedConfig())
		for range 5 {
			source := drawRef(t, false)
			r := drawRequest(t, source)
			want := reading(in, source, r, http)
			if got := envoyAllows(made, r); got != want {
				t.Fatalf("%v asks %+v: allowed %v, want %v, by\n%s\nof\n%s", source, r, got, want, prototext.Format(made), prototext.Format(in))
			}
			if allowed, _ := in.Allows(source); !http && allowed != want {
				t.Fatalf("the Go sidecar says %v to %v, and Envoy %v", allowed, source, want)
			}
		}
	})
}

// Whose intentions are not known is denied to everybody, and so is one whose trust domain
// is not: what the default action is makes no difference.
func TestUnknownIntentionsDenyAll(t *testing.T) {
	for name, in := range map[string]*isthmusv1.Inbound{
		"nothing": nil, "no trust domain": {DefaultAction: "allow"},
	} {
		for kind, config := range map[string]*anypb.Any{
			"network": resource.NetworkIntentions(in).GetTypedConfig(), "http": resource.HTTPIntentions(in).GetTypedConfig(),
		} {
			if made := rules(config); envoyAllows(made, request{id: "spiffe:///ns/default/dc/dc1/svc/web"}) {
				t.Errorf("%s, %s: allows by %v", name, kind, made)
			}
		}
	}
}
