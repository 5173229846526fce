package ads_test

import (
	"strings"
	"testing"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// A real Envoy shows its leaf and is served; what it refuses is named with its cause, and
// is over when that is replaced.
func TestEnvoyIsKnownAndReported(t *testing.T) {
	ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
	w := newWords()
	n, address, _ := secureNode(t, ca, w, 0)
	n.change(all(bindAt("127.0.0.1"), name("api", nil), set("api", "10.1.0.1")))
	startEnvoy(t, address, issue(t, ca, "edge", "dc1"))
	good := w.until(t, "it has all", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() && s.GetVersion() != "" })

	n.change(bindAt("nowhere"))
	refused := w.until(t, "it has refused the listener", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetLastNack() != nil })
	if said(refused) == "" || !strings.HasPrefix(said(refused), "Listener default:nowhere:") || refused.GetLastNack().GetCause().GetSequence() != 2 || refused.GetCurrent() {
		t.Errorf("it has refused %v", refused)
	}
	n.change(set("api", "10.1.0.2"))
	w.until(t, "it takes endpoints all the same", func(s *isthmusv1.ProxyStatus, _ int) bool {
		return s.GetVersion() != refused.GetVersion() && s.GetVersion() != good.GetVersion()
	})
	n.change(bindAt("127.0.0.2"))
	w.until(t, "it is over", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() && s.GetLastNack().GetOver() })
}

// An Envoy whose leaf expires loses its stream, and comes back with the next leaf; so it
// does when its root is taken away, and when its stream has lived its time.
func TestEnvoyComesBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		leafTTL time.Duration
		age     time.Duration
		end     func(t *testing.T, n *node, live *identity.Live, e *envoyProcess, next *identity.DevCA)
	}{
		{"its leaf expires", 6 * time.Second, 0, func(t *testing.T, _ *node, live *identity.Live, e *envoyProcess, next *identity.DevCA) {
			t.Helper()
			own := issue(t, next, isthmusv1.ServiceXDS, "dc1")
			live.Take(trusting(t, own, isthmusv1.ServiceXDS, own, live.Current()), nil)
			e.show(trusting(t, issue(t, next, "edge", "dc1"), "edge", own))
		}},
		{"its root is taken away", time.Hour, 0, func(t *testing.T, n *node, live *identity.Live, e *envoyProcess, next *identity.DevCA) {
			t.Helper()
			e.show(issue(t, next, "edge", "dc1"))
			live.Take(issue(t, next, isthmusv1.ServiceXDS, "dc1"), nil)
			n.server.Recheck()
		}},
		{"its stream is old", time.Hour, 2 * time.Second, func(*testing.T, *node, *identity.Live, *envoyProcess, *identity.DevCA) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ca := newCA(t, identity.DevCAConfig{TrustDomain: testDomain, LeafTTL: test.leafTTL})
			next := newCA(t, identity.DevCAConfig{TrustDomain: testDomain})
			w := newWords()
			n, address, live := secureNode(t, ca, w, test.age)
			n.change(all(bindAt("127.0.0.1"), name("api", nil), set("api", "10.1.0.1")))
			e := startEnvoy(t, address, issue(t, ca, "edge", "dc1"))
			first := w.until(t, "it has all", func(s *isthmusv1.ProxyStatus, _ int) bool { return s.GetCurrent() && s.GetVersion() != "" })
			test.end(t, n, live, e, next)
			w.until(t, "it is back", func(s *isthmusv1.ProxyStatus, streams int) bool {
				return streams > 1 && s.GetCurrent() && s.GetVersion() == first.GetVersion()
			})
			n.change(set("api", "10.1.0.2"))
			w.until(t, "it is served", func(s *isthmusv1.ProxyStatus, _ int) bool {
				return s.GetCurrent() && s.GetVersion() != first.GetVersion()
			})
		})
	}
}
