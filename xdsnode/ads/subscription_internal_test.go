package ads

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// model is an Envoy beside a subscription: what there is, what it wants and has, and
// what is on its way to it.
type model struct {
	s     *subscription
	there map[string]string
	names map[string]bool
	has   map[string]string
	sent  *batch
	// given are names that were given up since they were sent.
	given map[string]bool
	point *point
}

// step sends what is due, as a stream does.
func (m *model) step() {
	if !m.s.ready() {
		return
	}
	names := m.s.looked()
	found := make([]*xdsnode.Resource, len(names))
	for i, name := range names {
		if version, ok := m.there[name]; ok {
			found[i] = &xdsnode.Resource{Name: name, Version: version}
		}
	}
	b := m.s.take(names, found, true)
	if len(b.set)+len(b.gone) == 0 && !m.s.answer {
		return
	}
	m.s.answer = false
	m.s.nonce, m.sent, m.given = "1", &b, map[string]bool{}
	m.s.sending, m.s.partly = m.point, len(m.s.due) > 0
}

// answer takes what was sent in, or refuses the versions that it does not like, and with
// them all of their response.
func (m *model) answer() {
	if m.s.nonce == "" {
		return
	}
	refused := slices.ContainsFunc(m.sent.set, func(r *xdsnode.Resource) bool { return bad(r.Version) })
	if !refused {
		for _, r := range m.sent.set {
			if m.names[r.Name] && !m.given[r.Name] {
				m.has[r.Name] = r.Version
			}
		}
	}
	for _, name := range m.sent.gone {
		delete(m.has, name)
	}
	m.s.answered(refused)
	m.sent = nil
}

func bad(version string) bool { return version[0] == 'x' }

// content is the version of what the model has.
func (m *model) content() (out content) {
	for name, version := range m.has {
		out = out.plus(contentOf(m.s.kind, name, version))
	}
	return out
}

// Whatever changes, is asked for, accepted and refused, in the end the subscription knows
// what the Envoy has: all that there is of what it wants, but for what it refuses; and it
// is as far as the node only when it refuses nothing.
func TestSubscriptionKnowsWhatIsHad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			s: newSubscription(xdsnode.Assignment), there: map[string]string{}, names: map[string]bool{}, has: map[string]string{},
			given: map[string]bool{}, point: &point{number: 1},
		}
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		first := map[string]string{}
		if rapid.Bool().Draw(t, "comes back") {
			first["a"], m.has["a"], m.names["a"] = "v1", "v1", true
		}
		m.s.ask(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"a"}, InitialResourceVersions: first}, nil)
		m.names["a"] = true
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				n := name.Draw(t, "name")
				m.there[n] = rapid.SampledFrom([]string{"v1", "v2", "v3", "x1", "x2"}).Draw(t, "version")
				m.point = &point{number: m.point.number + 1}
				m.s.note(map[string]bool{n: true})
			},
			"gone": func(t *rapid.T) {
				n := name.Draw(t, "name")
				delete(m.there, n)
				m.point = &point{number: m.point.number + 1}
				m.s.note(map[string]bool{n: true})
			},
			"subscribe": func(t *rapid.T) {
				n := name.Draw(t, "name")
				m.names[n] = true
				m.s.ask(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{n}}, nil)
			},
			"unsubscribe": func(t *rapid.T) {
				n := name.Draw(t, "name")
				delete(m.names, n)
				delete(m.has, n)
				m.given[n] = true
				m.s.ask(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{n}}, nil)
			},
			"send":   func(*rapid.T) { m.step() },
			"answer": func(*rapid.T) { m.answer() },
			"": func(t *rapid.T) {
				if m.s.stand(m.point) == m.point && len(m.s.refused) > 0 {
					t.Fatalf("it is as far as the node, and refuses %v", slices.Collect(maps.Keys(m.s.refused)))
				}
			},
		})
		for range 100 {
			m.step()
			m.answer()
		}
		if !m.s.settled() {
			t.Fatalf("it does not come to rest: %+v", m.s)
		}
		if got, want := m.s.content, m.content(); got != want {
			t.Fatalf("it is said to have %s, and has %v, which is %s", got, m.has, want)
		}
		var refuses []string
		for n := range m.names {
			switch version, there := m.there[n]; {
			case !there && m.has[n] != "", there && !bad(version) && m.has[n] != version:
				t.Fatalf("of %s there is %q, and it has %q", n, version, m.has[n])
			case there && bad(version):
				refuses = append(refuses, n)
			}
		}
		slices.Sort(refuses)
		if got := slices.Sorted(maps.Keys(m.s.refused)); !slices.Equal(got, refuses) {
			t.Fatalf("it is said to refuse %v, and refuses %v", got, refuses)
		}
		if at := m.s.stand(m.point); (at == m.point) != (len(refuses) == 0) {
			t.Fatalf("it is at %v of %v, and refuses %s", at, m.point, fmt.Sprint(refuses))
		}
	})
}
