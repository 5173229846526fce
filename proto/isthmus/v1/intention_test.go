package isthmusv1_test

import (
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestActions: the actions are Consul's words.
func TestActions(t *testing.T) {
	if isthmusv1.ActionAllow != "allow" || isthmusv1.ActionDeny != "deny" {
		t.Errorf("allow is %q, deny is %q", isthmusv1.ActionAllow, isthmusv1.ActionDeny)
	}
}

// TestIntentions: the first intention that matches decides, else the default;
// permissions decide by request, and deny where there are no requests.
func TestIntentions(t *testing.T) {
	source := func(partition, namespace, name string) *isthmusv1.ServiceRef {
		return &isthmusv1.ServiceRef{Partition: partition, Namespace: namespace, Name: name}
	}
	permissions := []*isthmusv1.IntentionPermission{{Action: "allow"}}
	in := func(protocol, policy string) *isthmusv1.Inbound {
		return &isthmusv1.Inbound{Protocol: protocol, DefaultAction: policy, Intentions: []*isthmusv1.InboundIntention{
			{Source: source("", "", "peered"), Action: "allow", Peer: "cloud"},
			{Source: source("", "", "Admin"), Action: "allow"},
			{Source: source("", "", "admin"), Action: "deny"},
			{Source: source("", "ns1", "web"), Action: "deny"},
			{Source: source("p1", "", "web"), Action: "deny"},
			{Source: source("", "", "web"), Action: "allow"},
			{Source: source("", "", "by-request"), Permissions: permissions, Action: "allow"},
			{Source: source("", "", "odd"), Action: "ALLOW"},
			{Source: source("", "", "token"), Action: "allow", JwtJson: []byte("0")},
			{Source: source("", "", "token-by-request"), Permissions: permissions, JwtJson: []byte("{}")},
			{Source: source("", "ns2", "*"), Action: "allow"},
			{Source: source("p2", "*", "*"), Action: "allow"},
		}}
	}
	for _, test := range []struct {
		name               string
		source             *isthmusv1.ServiceRef
		protocol, policy   string
		allowed, byRequest bool
		matched            bool
	}{
		{"exact", source("", "", "web"), "tcp", "deny", true, false, true},
		{"without case", source("Default", "DEFAULT", "WEB"), "tcp", "deny", true, false, true},
		{"the first of two", source("", "", "admin"), "tcp", "deny", true, false, true},
		{"another namespace", source("", "ns1", "web"), "tcp", "allow", false, false, true},
		{"another partition", source("p1", "", "web"), "tcp", "allow", false, false, true},
		{"none, allow", source("", "", "other"), "tcp", "allow", true, false, false},
		{"none, deny", source("", "", "other"), "tcp", "deny", false, false, false},
		{"none, unreadable", source("", "", "other"), "tcp", "", false, false, false},
		{"a peer's", source("", "", "peered"), "tcp", "deny", false, false, false},
		{"with a token", source("", "", "token"), "http", "allow", false, false, true},
		{"with a token that nobody asks for", source("", "", "token"), "tcp", "deny", true, false, true},
		{"with a token, by request", source("", "", "token-by-request"), "grpc", "allow", false, false, true},
		{"by request", source("", "", "by-request"), "http", "allow", false, true, true},
		{"by request of http2", source("", "", "by-request"), "http2", "allow", false, true, true},
		{"by request of grpc", source("", "", "by-request"), "grpc", "allow", false, true, true},
		{"by request where there are none", source("", "", "by-request"), "tcp", "allow", false, false, true},
		{"not quite allow", source("", "", "odd"), "tcp", "allow", false, false, true},
		{"any of a namespace", source("", "ns2", "x"), "tcp", "deny", true, false, true},
		{"any of another partition", source("p2", "ns9", "x"), "tcp", "deny", true, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inbound := in(test.protocol, test.policy)
			allowed, byRequest := inbound.Allows(test.source)
			if allowed != test.allowed || byRequest != test.byRequest {
				t.Errorf("allowed %v, by request %v; want %v, %v", allowed, byRequest, test.allowed, test.byRequest)
			}
			if got := inbound.Match(test.source) != nil; got != test.matched {
				t.Errorf("matched %v, want %v", got, test.matched)
			}
		})
	}
}
