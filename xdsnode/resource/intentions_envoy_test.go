package resource_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// tricky are intentions that are easily got wrong.
var tricky = []string{
	`default_action: "deny"`,
	`default_action: "allow"`,
	// Deny over allow, and the other way round.
	`default_action: "deny" intentions { source { name: "web" } action: "deny" } intentions { source { name: "*" } action: "allow" }`,
	`default_action: "allow" intentions { source { name: "web" } action: "allow" } intentions { source { name: "*" } action: "deny" }`,
	// What is written last never decides.
	`default_action: "deny" intentions { source { name: "*" } action: "deny" } intentions { source { name: "web" } action: "allow" }`,
	`default_action: "allow" intentions { source { name: "*" } action: "allow" } intentions { source { name: "web" } action: "deny" }`,
	// A dot is a dot, and a comma is itself.
	`default_action: "deny" intentions { source { name: "a.b" } action: "allow" } intentions { source { name: "a,b" } action: "allow" }`,
	`default_action: "allow" intentions { source { name: "WEB" } action: "deny" }`,
	// By request.
	`default_action: "deny" protocol: "http" intentions { source { name: "web" }
	   permissions { action: "deny" path_exact: "/a" headers { name: "x-a" present: true } }
	   permissions { action: "allow" path_prefix: "/a" methods: "GET" }
	   permissions { action: "allow" headers { name: "x-b" exact: "B" ignore_case: true invert: true } } }`,
	`default_action: "allow" protocol: "http" intentions { source { name: "web" }
	   permissions { action: "allow" path_exact: "/a/b" }
	   permissions { action: "deny" path_prefix: "/a" }
	   permissions { action: "deny" path_regex: "/.*b" methods: "POST" } } intentions { source { name: "*" } action: "deny" }`,
	`default_action: "deny" protocol: "http" intentions { source { name: "web" }
	   permissions { action: "allow" path_exact: "/a" jwt_json: "{}" }
	   permissions { action: "allow" path_regex: "(" }
	   permissions { action: "deny" path_prefix: "/a" headers { name: "x-a" regex: "(" } }
	   permissions { action: "allow" path_prefix: "/" } }`,
}

// TestRealEnvoyAndIntentions: real callers with certificates, real requests, and a real
// Envoy, which lets in whom the intentions let in as they are written.
func TestRealEnvoyAndIntentions(t *testing.T) {
	var inbounds []*isthmusv1.Inbound
	for _, written := range tricky {
		in := &isthmusv1.Inbound{Protocol: "tcp"}
		if err := prototext.Unmarshal([]byte(written), in); err != nil {
			t.Fatal(err)
		}
		in.TrustDomain = trustDomain
		inbounds = append(inbounds, in, proto.CloneOf(in))
		inbounds[len(inbounds)-1].Protocol = "http"
	}
	for seed := range 40 {
		inbounds = append(inbounds, rapid.Custom(drawInbound).Example(seed))
	}
	ca := newAuthority(t)
	var listeners []any
	for i, in := range inbounds {
		listeners = append(listeners, guarded(t, fmt.Sprintf("l%d", i), in, ca.server("spiffe://"+trustDomain+"/ns/default/dc/dc1/svc/own")))
	}
	addresses := run(t, listeners, nil).addresses()

	verdicts := map[bool]int{}
	for c, source := range []*isthmusv1.ServiceRef{
		{Name: "web"}, {Name: "Web"}, {Name: "a.b"}, {Name: "aXb"}, {Name: "a,b"}, {Name: "ü"},
		{Name: "web", Namespace: "team"}, {Name: "api", Partition: "p1"},
	} {
		config := ca.client(isthmusv1.SPIFFEID(source, "dc2", trustDomain))
		by := &http.Transport{TLSClientConfig: config}
		t.Cleanup(by.CloseIdleConnections)
		for i, in := range inbounds {
			address := addresses[fmt.Sprintf("l%d", i)]
			if in.GetProtocol() != "http" {
				want := reading(in, source, request{}, false)
				verdicts[want]++
				if got := connects(t, address, config); got != want {
					t.Errorf("%v connects: %v, want %v, by %v", source, got, want, in)
				}
				continue
			}
			for n := range 6 {
				r := rapid.Custom(func(t *rapid.T) request { return drawRequest(t, source) }).Example(100*c + 7*i + n)
				want := reading(in, source, r, true)
				verdicts[want]++
				if got := asks(t, by, address, r); got != want {
					t.Errorf("%v asks %+v: %v, want %v, by %v", source, r, got, want, in)
				}
			}
		}
	}
	if verdicts[true] < 100 || verdicts[false] < 100 {
		t.Errorf("the verdicts are %v: too few of one to prove anything", verdicts)
	}
}

// guarded is a listener with mTLS and intentions: it echoes, or answers every request
// with 200.
func guarded(t *testing.T, name string, in *isthmusv1.Inbound, transport map[string]any) any {
	t.Helper()
	own := func(m proto.Message) json.RawMessage {
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	filters := []any{own(resource.NetworkIntentions(in)), map[string]any{
		"name": "echo", "typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
	}}
	if in.GetProtocol() == "http" {
		filters = []any{map[string]any{"name": "http", "typed_config": map[string]any{
			"@type": typeHTTP, "stat_prefix": name,
			"http_filters": []any{own(resource.HTTPIntentions(in)), map[string]any{"name": "router", "typed_config": map[string]any{"@type": typeRouter}}},
			"route_config": map[string]any{"name": name, "virtual_hosts": []any{map[string]any{
				"name": name, "domains": []any{"*"}, "routes": []any{map[string]any{"match": map[string]any{"prefix": "/"}, "direct_response": map[string]any{"status": 200}}},
			}}},
		}}}
	}
	return map[string]any{
		"name": name, "address": socketAddress("127.0.0.1", 0),
		"filter_chains": []any{map[string]any{"filters": filters, "transport_socket": transport}},
	}
}

// connects reports whether what is written comes back.
func connects(t *testing.T, address string, config *tls.Config) bool {
	t.Helper()
	connection, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "hello"); err != nil {
		return false
	}
	back := make([]byte, len("hello"))
	_, err = io.ReadFull(connection, back)
	return err == nil && string(back) == "hello"
}

// asks reports whether a request is answered with 200; 403 is the only other answer.
func asks(t *testing.T, by http.RoundTripper, address string, r request) bool {
	t.Helper()
	question, err := http.NewRequestWithContext(t.Context(), r.method, "https://"+address+r.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range r.headers {
		question.Header[http.CanonicalHeaderKey(name)] = []string{value}
	}
	answer, err := by.RoundTrip(question)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode == http.StatusForbidden && strings.Contains(string(said), "RBAC") {
		return false
	}
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%+v: %s %q", r, answer.Status, said)
	}
	return true
}
