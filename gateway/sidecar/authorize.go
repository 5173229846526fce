package sidecar

import (
	"fmt"
	"net/url"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Authorization is whether a caller may connect, and why.
type Authorization struct {
	Allowed bool
	// Intention is the entry that decided, like config/service-intentions/api;
	// empty when the default action did, or none was asked.
	Intention string
	// Text is the reason, for people.
	Text string
}

// authorize decides about a caller by its SPIFFE ID. Whoever is not a service of
// the trust domain is denied whatever the default action is: no intention could
// name it. The caller's datacenter is not looked at, as in Consul.
func authorize(inbound *isthmusv1.Inbound, caller *url.URL) Authorization {
	if inbound == nil {
		return denied("", "the intentions of the service are not known")
	}
	id, ok := isthmusv1.ParseSPIFFEID(caller)
	if !ok {
		return denied("", fmt.Sprintf("%s is not the SPIFFE ID of a service", caller))
	}
	if !strings.EqualFold(id.TrustDomain, inbound.GetTrustDomain()) {
		return denied("", fmt.Sprintf("%s is of another trust domain than %s", caller, inbound.GetTrustDomain()))
	}
	intention := inbound.Match(id.Service)
	if intention == nil {
		action := inbound.GetDefaultAction()
		return Authorization{Allowed: action == isthmusv1.ActionAllow, Text: "the default action is " + action}
	}
	if inbound.AsksForTokens(intention) {
		return denied(intention.GetKey(), "the intention asks for JSON web tokens, which are not supported")
	}
	if len(intention.GetPermissions()) > 0 {
		return denied(intention.GetKey(), "the intention decides by request, which takes a layer 7 proxy")
	}
	return Authorization{
		Allowed:   intention.GetAction() == isthmusv1.ActionAllow,
		Intention: intention.GetKey(),
		Text:      "the intention says " + intention.GetAction(),
	}
}

func denied(intention, text string) Authorization {
	return Authorization{Intention: intention, Text: text}
}

// Codes of the problems that a sidecar states of what it is to serve.
const (
	// CodeNeedsLayer7: a router, a splitter or intentions by request.
	CodeNeedsLayer7 = "NEEDS_LAYER_7"
	// CodeNoRoute: a bind leads to a route that is not there.
	CodeNoRoute = "NO_ROUTE"
	// CodeBadTLS: bounds on TLS that cannot be kept.
	CodeBadTLS = "BAD_TLS"
	// CodeBadListener: a bind that cannot be listened on.
	CodeBadListener = "BAD_LISTENER"
	// CodeNoInbound: the service's intentions are not there.
	CodeNoInbound = "NO_INBOUND"
)

func problem(code, fix, format string, args ...any) *isthmusv1.Problem {
	return &isthmusv1.Problem{
		Code: code, Severity: isthmusv1.Severity_SEVERITY_ERROR, Text: fmt.Sprintf(format, args...), Fix: fix,
	}
}

// inboundProblems are what keeps intentions from being applied as written.
func inboundProblems(service string, inbound *isthmusv1.Inbound) []*isthmusv1.Problem {
	if inbound == nil {
		return []*isthmusv1.Problem{problem(CodeNoInbound, "", "all callers of %s are denied: its intentions are not known", service)}
	}
	var out []*isthmusv1.Problem
	for _, i := range inbound.GetIntentions() {
		if len(i.GetPermissions()) > 0 {
			out = append(out, problem(CodeNeedsLayer7, "write an action instead of permissions, or run Envoy beside the service",
				"%s is denied by %s: its permissions decide by request, which takes a layer 7 proxy",
				i.GetSource().Qualified(), i.GetKey()))
		}
	}
	return out
}
