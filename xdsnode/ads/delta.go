package ads

import (
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// deltaStream is one Envoy that asks for differences.
type deltaStream struct {
	*session
	answer func(*discovery.DeltaDiscoveryResponse) error
	types  map[xdsnode.Type]*subscription
}

// DeltaAggregatedResources implements the service.
func (s *Server) DeltaAggregatedResources(with discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return serve(with.Context(), s, with.Recv, func(session *session) protocol[*discovery.DeltaDiscoveryRequest] {
		st := &deltaStream{session: session, answer: with.Send, types: map[xdsnode.Type]*subscription{}}
		for _, t := range xdsnode.Types() {
			st.types[t] = newSubscription(t)
		}
		return st
	})
}

// take takes a request: an answer to what was sent, or something to subscribe to, or
// both.
func (st *deltaStream) take(r *discovery.DeltaDiscoveryRequest) {
	t := xdsnode.Type(r.GetTypeUrl())
	s := st.types[t]
	if s == nil {
		st.unserved(r.GetTypeUrl())
		return
	}
	if nonce := r.GetResponseNonce(); nonce != "" && nonce == s.nonce {
		why := r.GetErrorDetail()
		if names := s.answered(why != nil); why != nil {
			st.refused(t, names, why.GetMessage(), s.sending)
		}
	}
	if !s.begun || len(r.GetResourceNamesSubscribe())+len(r.GetResourceNamesUnsubscribe()) > 0 {
		s.ask(r, func() []string { return st.names(t) })
	}
}

// send sends what is due. Clusters and assignments go together, since an Envoy answers
// for a cluster when it has its assignment; listeners and routes when these were answered,
// and what nothing leads to any more is taken away when all was. A listener that goes
// makes way, in one response, for another at its address.
func (st *deltaStream) send() error {
	for t, names := range st.noted() {
		st.types[t].note(names)
	}
	for _, step := range []struct {
		t        xdsnode.Type
		removals bool
		after    []xdsnode.Type
	}{
		{xdsnode.Cluster, false, nil},
		{xdsnode.Assignment, false, nil},
		{xdsnode.Listener, true, []xdsnode.Type{xdsnode.Cluster, xdsnode.Assignment}},
		{xdsnode.Route, false, []xdsnode.Type{xdsnode.Cluster, xdsnode.Assignment}},
		{xdsnode.Route, true, xdsnode.Types()},
		{xdsnode.Cluster, true, xdsnode.Types()},
		{xdsnode.Assignment, true, xdsnode.Types()},
	} {
		if slices.ContainsFunc(step.after, func(t xdsnode.Type) bool { return st.types[t].nonce != "" }) {
			continue
		}
		if err := st.sendType(step.t, step.removals); err != nil {
			return err
		}
	}
	return nil
}

func (st *deltaStream) sendType(t xdsnode.Type, removals bool) error {
	s := st.types[t]
	if !s.ready() {
		return nil
	}
	names := s.looked()
	found, err := st.look(t, names)
	if err != nil {
		return err
	}
	b := s.take(names, found, removals)
	if len(b.set)+len(b.gone) == 0 && !s.answer {
		return nil
	}
	s.answer = false
	response := &discovery.DeltaDiscoveryResponse{TypeUrl: string(t), Nonce: st.nonce(), RemovedResources: b.gone}
	for _, r := range b.set {
		response.Resources = append(response.Resources, &discovery.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
		for _, name := range r.Refs {
			// An Envoy waits for the endpoints of a cluster that it was sent, though it has them,
			// and for the routes of a listener.
			st.types[t.Awaited()].again(name)
		}
	}
	s.nonce = response.GetNonce()
	s.sending, s.partly = st.taken, len(s.due) > 0
	return st.answer(response)
}

// settled reports whether the Envoy has answered all that there is.
func (st *deltaStream) settled() bool {
	for _, s := range st.types {
		if !s.settled() {
			return false
		}
	}
	return true
}

// stand is what the Envoy has taken in.
func (st *deltaStream) stand() standing {
	out := standing{at: st.taken}
	for _, s := range st.types {
		if !s.begun {
			continue
		}
		out.at = earlier(out.at, s.stand(st.taken))
		out.content = out.content.plus(s.content)
		out.refusing = out.refusing || len(s.refused) > 0
	}
	return out
}
