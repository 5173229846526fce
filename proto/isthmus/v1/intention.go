package isthmusv1

import "strings"

// Actions of intentions.
const (
	ActionAllow = "allow"
	ActionDeny  = "deny"
)

// Match returns the intention that decides about a source: the first that
// matches it, or nil when the default action counts. Names match without case,
// and `*` matches every name; the datacenter of a source is never asked, as in
// Consul. Intentions about peers match no service of this trust domain.
func (i *Inbound) Match(source *ServiceRef) *InboundIntention {
	for _, intention := range i.GetIntentions() {
		if intention.matches(source) {
			return intention
		}
	}
	return nil
}

func (i *InboundIntention) matches(source *ServiceRef) bool {
	of := i.GetSource()
	return i.GetPeer() == "" &&
		sameName(of.GetPartition(), source.GetPartition()) &&
		(of.GetNamespace() == "*" || sameName(of.GetNamespace(), source.GetNamespace())) &&
		(of.GetName() == "*" || strings.EqualFold(of.GetName(), source.GetName()))
}

// sameName compares names of partitions and namespaces; empty is default.
func sameName(a, b string) bool {
	if a == "" {
		a = DefaultName
	}
	if b == "" {
		b = DefaultName
	}
	return strings.EqualFold(a, b)
}

// Allows reports whether a source may connect whatever it asks for. With
// byRequest the intention's permissions decide by request instead; of a service
// that is not HTTP they deny.
func (i *Inbound) Allows(source *ServiceRef) (allowed, byRequest bool) {
	intention := i.Match(source)
	switch {
	case intention == nil:
		return i.GetDefaultAction() == ActionAllow, false
	case i.AsksForTokens(intention):
		return false, false
	case len(intention.GetPermissions()) > 0:
		return false, isHTTP(i.GetProtocol())
	}
	return intention.GetAction() == ActionAllow, false
}

// AsksForTokens reports whether an intention lets sources in with JSON web tokens alone,
// which nothing here checks: then it lets nobody in. Of a service that is not HTTP,
// tokens are not asked for, as in Consul (agent/xds/rbac.go).
func (i *Inbound) AsksForTokens(intention *InboundIntention) bool {
	return len(intention.GetJwtJson()) > 0 && isHTTP(i.GetProtocol())
}

func isHTTP(protocol string) bool {
	return protocol == "http" || protocol == "http2" || protocol == "grpc"
}
