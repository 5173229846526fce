package resolver

import (
	"cmp"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// anyName stands for every name in intentions.
const anyName = "*"

// anyService stands for every service of every namespace.
var anyService = &isthmusv1.ServiceRef{Name: anyName, Namespace: anyName}

// inbound is who may connect to a service: the intentions of its own entry and
// of the entries for all services, most specific first.
func (v *view) inbound(ref *isthmusv1.ServiceRef) *isthmusv1.Inbound {
	in := &isthmusv1.Inbound{
		Service:     ref,
		Protocol:    v.protocol(ref),
		TrustDomain: v.trustDomain(),
	}
	for open := range openness(anyService) + 1 {
		v.addIntentions(in, opened(ref, open))
	}
	slices.SortStableFunc(in.GetIntentions(), compareIntentions)
	v.defaultAction(in)
	if !isHTTP(in.GetProtocol()) && slices.ContainsFunc(in.GetIntentions(), hasPermissions) {
		in.Problems = addProblem(in.Problems, problemError(CodePermissionsNeedHTTP,
			"set the protocol of "+ref.GetName()+" to http, http2 or grpc, or write an action",
			"intentions with permissions deny, because the protocol of %s is %s", ref.Qualified(), in.GetProtocol()))
	}
	return in
}

func hasPermissions(i *isthmusv1.InboundIntention) bool { return len(i.GetPermissions()) > 0 }

// addIntentions adds those of one entry.
func (v *view) addIntentions(in *isthmusv1.Inbound, destination *isthmusv1.ServiceRef) {
	found, e := v.serviceEntry(kindServiceIntentions, destination)
	for _, s := range e.GetServiceIntentions().GetSources() {
		if s.GetSamenessGroup() != "" {
			in.Problems = addProblem(in.Problems, unsupported("%s names sameness group %s, which is not supported", found.key, s.GetSamenessGroup()))
			if !strings.EqualFold(s.GetAction(), isthmusv1.ActionDeny) {
				continue // What would let a group in lets nobody in.
			}
		}
		if s.GetPeer() != "" {
			in.Problems = addProblem(in.Problems, unsupported("%s names peer %s: peering is not supported", found.key, s.GetPeer()))
		}
		// A source without a partition is in the destination's.
		source := newRef(cmp.Or(s.GetPartition(), in.GetService().GetPartition()), s.GetNamespace(), s.GetName())
		i := &isthmusv1.InboundIntention{
			Source:      source,
			Action:      strings.ToLower(s.GetAction()),
			Permissions: s.GetPermissions(),
			Precedence:  precedence(destination, source),
			Key:         found.key.String(),
			Peer:        s.GetPeer(),
			JwtJson:     e.GetServiceIntentions().GetJwtJson(),
		}
		stateTokens(in, i)
		statePermissions(in, i)
		in.Intentions = append(in.Intentions, i)
	}
}

// precedence is Consul's: exact to exact 9, any to exact 8, exact to any 6, any
// to any 5 (reference 4). The numbers between and below are for names that
// leave the namespace open.
func precedence(destination, source *isthmusv1.ServiceRef) uint32 {
	return 9 - 3*openness(destination) - openness(source)
}

// openness counts how much of a name is left open: nothing, the service, or the
// namespace too.
func openness(ref *isthmusv1.ServiceRef) uint32 {
	switch {
	case ref.GetNamespace() == anyName:
		return 2
	case ref.GetName() == anyName:
		return 1
	}
	return 0
}

// opened leaves a part of a name open, as far as openness says.
func opened(ref *isthmusv1.ServiceRef, openness uint32) *isthmusv1.ServiceRef {
	name, namespace := ref.GetName(), ref.GetNamespace()
	if openness >= 1 {
		name = anyName
	}
	if openness >= 2 {
		namespace = anyName
	}
	return newRef(ref.GetPartition(), namespace, name)
}

// compareIntentions orders by precedence; those of one precedence concern
// different sources, and are ordered by name so that the order is settled.
func compareIntentions(a, b *isthmusv1.InboundIntention) int {
	return cmp.Or(
		cmp.Compare(b.GetPrecedence(), a.GetPrecedence()),
		cmp.Compare(a.GetPeer(), b.GetPeer()),
		cmp.Compare(a.GetSource().Qualified(), b.GetSource().Qualified()),
	)
}

// defaultAction is that of the datacenter. What cannot be read denies.
func (v *view) defaultAction(in *isthmusv1.Inbound) {
	policy := strings.ToLower(v.meshFacts().GetDefaultIntentionPolicy())
	in.DefaultAction = isthmusv1.ActionDeny
	switch policy {
	case isthmusv1.ActionAllow:
		in.DefaultAction = isthmusv1.ActionAllow
	case isthmusv1.ActionDeny:
	default:
		in.Problems = addProblem(in.Problems, problemWarning(CodeInvalidPolicy, "set default_intention_policy to allow or deny",
			"the default intention policy %q is neither allow nor deny; it acts as deny", policy))
	}
}
