package ads

import (
	"maps"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// all is the name that stands for all resources of a type.
const all = "*"

// subscription is what one stream wants of one type, and has: the rules of the delta
// protocol, without the stream. It is pure.
type subscription struct {
	kind xdsnode.Type
	// begun: the type was asked for. all and names are what of it.
	begun bool
	all   bool
	names map[string]bool
	// has is the version that the Envoy has of each, or has refused.
	has map[string]string
	// due are the names to look at; resend those to be sent although they are the same.
	due, resend map[string]bool
	// answer: the next response is sent even if there is nothing in it.
	answer bool
	// nonce of the response that was not answered yet; empty: all were. sent are the
	// resources in it.
	nonce string
	sent  []string
	// tries are groups of names of a response that was refused: one of them is what the
	// Envoy refuses, and keeps back the others only until it is found.
	tries [][]string
	// owed are names that clusters, or listeners, that were sent wait for, before they were
	// asked for.
	owed map[string]bool

	// kept are the versions that the Envoy really has of what was sent and not accepted;
	// refused are those of them that it has refused.
	kept    map[string]string
	refused map[string]bool
	// content is what it really has.
	content content
	// sending is the point from which the response came that was not answered yet; partly:
	// not all of that was in it. reached is the newest point of which it has all.
	sending, reached *point
	partly           bool
}

func newSubscription(t xdsnode.Type) *subscription {
	return &subscription{
		kind: t, names: map[string]bool{}, has: map[string]string{}, due: map[string]bool{}, resend: map[string]bool{}, owed: map[string]bool{},
		kept: map[string]string{}, refused: map[string]bool{},
	}
}

// wants reports whether a resource was asked for.
func (s *subscription) wants(name string) bool { return s.names[name] || s.all && name != all }

// ask takes what a request subscribes to and no longer. have are the names of all
// resources of the type that there are.
func (s *subscription) ask(r *discovery.DeltaDiscoveryRequest, have func() []string) {
	first := !s.begun
	s.begun = true
	if first {
		// What the Envoy has may be gone.
		for name, version := range r.GetInitialResourceVersions() {
			s.has[name], s.due[name] = version, true
			s.content = s.content.plus(contentOf(s.kind, name, version))
		}
	}
	subscribe := r.GetResourceNamesSubscribe()
	if first && len(subscribe) == 0 && len(r.GetResourceNamesUnsubscribe()) == 0 {
		subscribe = []string{all} // As before there was a name for it.
	}
	for _, name := range subscribe {
		if name == all {
			s.all = true
			s.answer = s.answer || len(s.has) == 0
			for _, n := range have() {
				s.due[n] = true
			}
			continue
		}
		if s.names[name] || !first || s.owed[name] {
			// Asked for again, it is sent again.
			s.resend[name] = true
		}
		delete(s.owed, name)
		s.names[name] = true
		s.due[name] = true
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		if name == all {
			s.all = false
		}
		delete(s.names, name)
	}
	if s.all {
		// The client does not know whether it gets it with all others, and so it is told.
		for _, name := range r.GetResourceNamesUnsubscribe() {
			if _, known := s.has[name]; known {
				s.again(name)
			}
		}
	}
	for name := range s.has {
		if !s.wants(name) {
			s.forget(name)
		}
	}
	for _, m := range []map[string]bool{s.due, s.resend} {
		maps.DeleteFunc(m, func(name string, _ bool) bool { return !s.wants(name) })
	}
}

// note has names looked at that may have changed.
func (s *subscription) note(names map[string]bool) {
	for name := range names {
		if s.wants(name) {
			s.due[name] = true
		}
	}
}

// again has a resource sent although the Envoy has it, now or when it is asked for.
func (s *subscription) again(name string) {
	if s.wants(name) {
		s.due[name], s.resend[name] = true, true
	} else {
		s.owed[name] = true
	}
}

// forget takes note that the Envoy has a resource no longer.
func (s *subscription) forget(name string) {
	really, unsure := s.kept[name]
	if !unsure {
		really = s.has[name]
	}
	if really != "" {
		s.content = s.content.minus(contentOf(s.kind, name, really))
	}
	delete(s.has, name)
	delete(s.kept, name)
	delete(s.refused, name)
}

// accept takes note that the Envoy has what it was sent of a resource.
func (s *subscription) accept(name string) {
	really, unsure := s.kept[name]
	if !unsure {
		return // It was given up meanwhile.
	}
	if really != "" {
		s.content = s.content.minus(contentOf(s.kind, name, really))
	}
	s.content = s.content.plus(contentOf(s.kind, name, s.has[name]))
	delete(s.kept, name)
	delete(s.refused, name)
}

// answered takes the answer to what was sent last, and returns what that was. Of several
// that were refused, each half is sent again by itself, until one alone is: that one is
// not sent again before it changes.
func (s *subscription) answered(refused bool) (sent []string) {
	s.nonce = ""
	sent, s.sent = s.sent, nil
	switch n := len(sent); {
	case !refused:
		for _, name := range sent {
			s.accept(name)
		}
		if len(s.kept) == 0 {
			s.kept = map[string]string{} // A map that was large stays so.
		}
		if !s.partly && len(s.refused) == 0 {
			s.reached = s.sending
		}
	case n > 1:
		s.tries = append([][]string{sent[:n/2], sent[n/2:]}, s.tries...)
		for _, name := range sent {
			s.again(name)
		}
		fallthrough
	default:
		for _, name := range sent {
			if _, unsure := s.kept[name]; unsure {
				s.refused[name] = true
			}
		}
		s.reached = s.reached.before(s.sending)
	}
	return sent
}

// settled reports whether the Envoy has answered all that there is.
func (s *subscription) settled() bool { return s.nonce == "" && !s.ready() }

// stand is the newest point of which the Envoy has all; taken is the newest that is in
// what is due.
func (s *subscription) stand(taken *point) *point {
	if s.settled() && len(s.refused) == 0 {
		s.reached = taken
	}
	return s.reached
}

// ready reports whether something may be sent now.
func (s *subscription) ready() bool { return s.begun && s.nonce == "" && (s.answer || len(s.due) > 0) }

// looked are the names to look up, sorted.
func (s *subscription) looked() []string {
	for len(s.tries) > 0 {
		group := slices.DeleteFunc(slices.Clone(s.tries[0]), func(name string) bool { return !s.due[name] })
		if len(group) > 0 {
			return group
		}
		s.tries = s.tries[1:]
	}
	return slices.Sorted(maps.Keys(s.due))
}

// batch is what is to be sent.
type batch struct {
	set  []*xdsnode.Resource
	gone []string
}

// take decides what to send of the resources that were looked up, and counts that as
// had. With removals it sends what is gone too, which otherwise stays due.
func (s *subscription) take(names []string, found []*xdsnode.Resource, removals bool) batch {
	var b batch
	s.sent = nil
	for i, name := range names {
		r := found[i]
		had, known := s.has[name]
		switch {
		case r != nil:
			if !known || had != r.Version || s.resend[name] {
				b.set = append(b.set, r)
				s.sent = append(s.sent, name)
				if _, unsure := s.kept[name]; !unsure {
					s.kept[name] = had
				}
				s.has[name] = r.Version
			}
		case !known && !s.names[name]:
			// It came and went.
		case known && !removals:
			continue
		default:
			// One that was asked for by its name, and never was there, is said not to be.
			b.gone = append(b.gone, name)
			if known {
				s.forget(name)
			}
		}
		delete(s.due, name)
		delete(s.resend, name)
	}
	return b
}
