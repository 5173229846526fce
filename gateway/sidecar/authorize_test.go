package sidecar

import (
	"net/url"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

const td = "11111111-2222-3333-4444-555555555555.consul"

// intention reads "allow web", "deny *", "permit web" (by request), "both web"
// (by request, though it also has an action), "allow web%peer",
// "allow part/space/web"; its key is its text.
func intention(text string) *isthmusv1.InboundIntention {
	action, source, _ := strings.Cut(text, " ")
	source, peer, _ := strings.Cut(source, "%")
	i := &isthmusv1.InboundIntention{Source: serviceRef(source), Action: action, Peer: peer, Key: text}
	permissions := []*isthmusv1.IntentionPermission{{Action: "allow", PathPrefix: "/"}}
	switch action {
	case "permit":
		i.Action, i.Permissions = "", permissions
	case "both":
		i.Action, i.Permissions = isthmusv1.ActionAllow, permissions
	}
	return i
}

// serviceRef reads name, space/name or part/space/name.
func serviceRef(text string) *isthmusv1.ServiceRef {
	parts := strings.Split(text, "/")
	ref := &isthmusv1.ServiceRef{Name: parts[len(parts)-1]}
	if len(parts) > 1 {
		ref.Namespace = parts[len(parts)-2]
	}
	if len(parts) > 2 {
		ref.Partition = parts[0]
	}
	return ref
}

func inboundOf(defaultAction string, intentions ...string) *isthmusv1.Inbound {
	in := &isthmusv1.Inbound{
		Service: serviceRef("api"), Protocol: "tcp", DefaultAction: defaultAction, TrustDomain: td,
	}
	for _, text := range intentions {
		in.Intentions = append(in.Intentions, intention(text))
	}
	return in
}

func spiffe(t *testing.T, text string) *url.URL {
	t.Helper()
	uri, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// Who is let in with a token alone is denied where tokens are asked for.
func TestAuthorizeWithoutTokens(t *testing.T) {
	caller, err := url.Parse("spiffe://" + td + "/ns/default/dc/dc1/svc/web")
	if err != nil {
		t.Fatal(err)
	}
	inbound := inboundOf("allow", "allow web")
	inbound.GetIntentions()[0].JwtJson = []byte("{}")
	for protocol, allowed := range map[string]bool{"tcp": true, "http": false, "http2": false, "grpc": false} {
		inbound.Protocol = protocol
		if got := authorize(inbound, caller); got.Allowed != allowed || got.Intention != "allow web" {
			t.Errorf("%s: %+v", protocol, got)
		}
	}
}

// TestAuthorize is the table of who may connect. Each rule of the matching has
// a row that fails without it.
func TestAuthorize(t *testing.T) {
	const (
		web   = "spiffe://" + td + "/ns/default/dc/dc1/svc/web"
		other = "spiffe://" + td + "/ns/default/dc/dc1/svc/other"
		team  = "spiffe://" + td + "/ns/team/dc/dc1/svc/web"
		part  = "spiffe://" + td + "/ap/part/ns/default/dc/dc1/svc/web"
	)
	tests := []struct {
		name      string
		inbound   *isthmusv1.Inbound
		caller    string
		allowed   bool
		intention string
	}{
		{"the default allows", inboundOf("allow"), web, true, ""},
		{"the default denies", inboundOf("deny"), web, false, ""},
		{"a default that is neither denies", inboundOf("maybe"), web, false, ""},
		{"no default denies", inboundOf(""), web, false, ""},
		{"nothing is known", nil, web, false, ""},

		{"an intention allows", inboundOf("deny", "allow web"), web, true, "allow web"},
		{"an intention denies", inboundOf("allow", "deny web"), web, false, "deny web"},
		{"an action that is neither denies", inboundOf("allow", "maybe web"), web, false, "maybe web"},
		{"an intention about another service, default deny", inboundOf("deny", "allow other"), web, false, ""},
		{"an intention about another service, default allow", inboundOf("allow", "deny other"), web, true, ""},

		{"the first that matches decides: exact, then any", inboundOf("deny", "allow web", "deny *"), web, true, "allow web"},
		{"the first that matches decides: exact deny, then any", inboundOf("allow", "deny web", "allow *"), web, false, "deny web"},
		{"another falls to any: deny", inboundOf("allow", "allow web", "deny *"), other, false, "deny *"},
		{"another falls to any: allow", inboundOf("deny", "deny web", "allow *"), other, true, "allow *"},
		{"the order is the list's, not ours", inboundOf("deny", "allow *", "deny web"), web, true, "allow *"},
		{"any before the default", inboundOf("deny", "allow *"), web, true, "allow *"},
		{"of two that match, the first", inboundOf("deny", "deny other", "allow web", "deny web"), web, true, "allow web"},

		{"by request is denied", inboundOf("allow", "permit web"), web, false, "permit web"},
		{"by request is denied whatever its action", inboundOf("allow", "both web"), web, false, "both web"},
		{"by request concerns its source only", inboundOf("allow", "permit web"), other, true, ""},
		{"by request is decided before what comes after", inboundOf("allow", "permit web", "allow *"), web, false, "permit web"},

		{"the datacenter is not looked at", inboundOf("deny", "allow web"), strings.Replace(web, "dc1", "dc9", 1), true, "allow web"},
		{"names match without case", inboundOf("allow", "deny Web"), web, false, "deny Web"},
		{"a longer name is another", inboundOf("deny", "allow web"), web + "-admin", false, ""},
		{"a shorter name is another", inboundOf("deny", "allow web"), strings.TrimSuffix(web, "b"), false, ""},

		{"another namespace is another service", inboundOf("allow", "deny web"), team, true, ""},
		{"its own namespace matches", inboundOf("deny", "allow team/web"), team, true, "allow team/web"},
		{"a namespace that is spelled out", inboundOf("deny", "allow default/web"), web, true, "allow default/web"},
		{"namespaces match without case", inboundOf("deny", "allow Team/web"), team, true, "allow Team/web"},
		{"partitions match without case", inboundOf("deny", "allow Part/default/web"), part, true, "allow Part/default/web"},
		{"any service of a namespace", inboundOf("deny", "allow team/*"), team, true, "allow team/*"},
		{"any service of a namespace is not of all", inboundOf("deny", "allow team/*"), web, false, ""},
		{"any service of the default namespace is not of all", inboundOf("deny", "allow *"), team, false, ""},
		{"any namespace", inboundOf("deny", "allow */*"), team, true, "allow */*"},
		{"any namespace, one name", inboundOf("deny", "allow */web"), team, true, "allow */web"},
		{"another partition is another service", inboundOf("allow", "deny web"), part, true, ""},
		{"any is not of another partition", inboundOf("deny", "allow *"), part, false, ""},
		{"its own partition matches", inboundOf("deny", "allow part/default/web"), part, true, "allow part/default/web"},

		{"an intention about a peer's service", inboundOf("deny", "allow web%cluster"), web, false, ""},
		{"a peer's denial concerns its own", inboundOf("allow", "deny web%cluster"), web, true, ""},

		{"a foreign trust domain, default allow", inboundOf("allow"), strings.Replace(web, td, "evil.consul", 1), false, ""},
		{"a foreign trust domain, allowed name", inboundOf("allow", "allow web"), strings.Replace(web, td, "evil.consul", 1), false, ""},
		{"a trust domain in upper case", inboundOf("allow"), strings.Replace(web, ".consul", ".CONSUL", 1), true, ""},
		{"a gateway's identity", inboundOf("allow", "allow *"), "spiffe://" + td + "/gateway/mesh/dc/dc1", false, ""},
		{"an agent's identity", inboundOf("allow", "allow *"), "spiffe://" + td + "/agent/client/dc/dc1/id/x", false, ""},
		{"the CA's identity", inboundOf("allow", "allow *"), "spiffe://" + td, false, ""},
		{"something else than SPIFFE", inboundOf("allow"), "https://" + td + "/ns/default/dc/dc1/svc/web", false, ""},
		{"a service named like any", inboundOf("deny", "allow web"), "spiffe://" + td + "/ns/default/dc/dc1/svc/*", false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := authorize(test.inbound, spiffe(t, test.caller))
			if got.Allowed != test.allowed || got.Intention != test.intention {
				t.Errorf("allowed %v by %q; want %v by %q", got.Allowed, got.Intention, test.allowed, test.intention)
			}
			if got.Text == "" {
				t.Error("it does not say why")
			}
		})
	}
}

// TestUnknownTrustDomainDenies: while the trust domain is not known, nobody is
// of it.
func TestUnknownTrustDomainDenies(t *testing.T) {
	in := inboundOf("allow", "allow *")
	in.TrustDomain = ""
	if got := authorize(in, spiffe(t, "spiffe://"+td+"/ns/default/dc/dc1/svc/web")); got.Allowed {
		t.Error("a caller was let in")
	}
	if got := authorize(in, &url.URL{Scheme: "spiffe", Path: "/ns/default/dc/dc1/svc/web"}); got.Allowed {
		t.Error("a caller without a trust domain was let in")
	}
}

// TestUnknownIntentionsAreSaid: what is not known is said to be so.
func TestUnknownIntentionsAreSaid(t *testing.T) {
	got := authorize(nil, spiffe(t, "spiffe://"+td+"/ns/default/dc/dc1/svc/web"))
	if got.Allowed || !strings.Contains(got.Text, "not known") {
		t.Errorf("got %+v", got)
	}
}

// TestCodes: the codes of problems are stable; others look for them by name.
func TestCodes(t *testing.T) {
	for got, want := range map[string]string{
		CodeNeedsLayer7: "NEEDS_LAYER_7", CodeNoRoute: "NO_ROUTE", CodeBadTLS: "BAD_TLS",
		CodeBadListener: "BAD_LISTENER", CodeNoInbound: "NO_INBOUND",
	} {
		if got != want {
			t.Errorf("%s is %q", want, got)
		}
	}
}

func TestInboundProblems(t *testing.T) {
	if got := inboundProblems("api", nil); len(got) != 1 || got[0].GetCode() != CodeNoInbound {
		t.Errorf("without intentions: %v", got)
	}
	got := inboundProblems("api", inboundOf("allow", "allow web", "permit other", "deny *"))
	if len(got) != 1 || got[0].GetCode() != CodeNeedsLayer7 || !strings.Contains(got[0].GetText(), "other") || got[0].GetFix() == "" ||
		got[0].GetSeverity() != isthmusv1.Severity_SEVERITY_ERROR {
		t.Errorf("by request: %v", got)
	}
}
