package ads_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// heard is what a node says of its proxies.
type heard struct {
	mu      sync.Mutex
	proxies map[string]*isthmusv1.ProxyStatus
	// told counts what was told of proxies, and lines is all of it since it was last read.
	lines []string
	node  uint64
}

func (h *heard) Proxy(s *isthmusv1.ProxyStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	line := fmt.Sprintf("%s at %d", s.GetProxy(), s.GetRoutes().GetSequence())
	if s.GetCurrent() {
		line = s.GetProxy() + " current"
	}
	if nack := s.GetLastNack(); nack != nil {
		line += fmt.Sprintf(", refused %s of %d", nack.GetResource(), nack.GetCause().GetSequence())
		if nack.GetOver() {
			line += ", over"
		}
	}
	h.proxies[s.GetProxy()], h.lines = s, append(h.lines, line)
}

func (h *heard) Forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.proxies, name)
	h.lines = append(h.lines, name+" gone")
}

func (h *heard) Node(routes *isthmusv1.Position, _ *isthmusv1.Basis) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.node = routes.GetSequence()
	h.lines = append(h.lines, fmt.Sprintf("node at %d", h.node))
}

// want wants what was told since it was last asked.
func (h *heard) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.lines, lines) {
		t.Fatalf("told\n%s\nwant\n%s", strings.Join(h.lines, "\n"), strings.Join(lines, "\n"))
	}
	h.lines = nil
}

// skip reads what was told.
func (h *heard) skip() {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = nil
}

func (h *heard) version(name string) string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proxies[name].GetVersion()
}

func reporting(t *testing.T) (*node, *heard) {
	t.Helper()
	h := &heard{proxies: map[string]*isthmusv1.ProxyStatus{}}
	return bubble(t, ads.Config{Reports: h}, insecure.NewCredentials()), h
}

// A proxy is where its node is when it has answered everything, and until then where the
// node was before; what does not concern it costs it no word.
func TestReportsHowFarAProxyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := reporting(t)
		n.change(all(gateway("n1"), gateway("n2"), name("api", nil), set("api", "10.1.0.1")))
		h.want(t, "node at 1")
		e := n.patientOn("mg", "n1")
		e.subscribe(xdsnode.Cluster, "*")
		r := e.unanswered(xdsnode.Cluster, []string{"api"}, nil)
		h.want(t, "n1/mg at 0")
		e.acknowledge(r)
		h.want(t, "n1/mg current")
		e.subscribe(xdsnode.Assignment, "api")
		e.want(xdsnode.Assignment, []string{"api"}, nil)
		h.skip()

		n.change(proxyOf("n3", "other", isthmusv1.InstanceKindMeshGateway, "web")) // Which is nothing to it.
		h.want(t, "node at 2")
		n.change(set("api", "10.1.0.2"))
		r = e.unanswered(xdsnode.Assignment, []string{"api"}, nil)
		h.want(t, "n1/mg at 2", "node at 3")
		n.change(set("api", "10.1.0.3"))
		n.change(set("api", "10.1.0.4"))
		h.want(t, "n1/mg at 2", "node at 4", "n1/mg at 2", "node at 5")
		e.acknowledge(r)
		r = e.unanswered(xdsnode.Assignment, []string{"api"}, nil)
		h.want(t, "n1/mg at 3")
		e.acknowledge(r)
		h.want(t, "n1/mg current")
	})
}

// A refusal names the resource and the routes that it came from. The proxy stays behind
// until that is replaced.
func TestReportsRefusals(t *testing.T) {
	for _, protocol := range []string{"delta", "state of the world"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, h := reporting(t)
				n.change(all(gateway("n1"), name("api", nil), name("db", nil), set("api", "10.1.0.1")))
				refuse, accept := n.endpointsBy(protocol)
				h.skip()
				good := h.version("n1/mg")
				n.change(set("api", "10.1.0.2"))
				refuse("malformed api")
				h.want(t, "n1/mg at 1", "node at 2", "n1/mg at 1, refused ClusterLoadAssignment api of 2")
				if h.version("n1/mg") != good {
					t.Error("it has not what it had")
				}
				n.change(set("api", "10.1.0.3"))
				accept()
				h.want(t, "n1/mg at 1, refused ClusterLoadAssignment api of 2", "node at 3", "n1/mg current, refused ClusterLoadAssignment api of 2, over")
				if h.version("n1/mg") == good {
					t.Error("it has only what it had")
				}
			})
		})
	}
}

// endpointsBy begins a stream that has the endpoints of two names, and returns what
// refuses and what accepts the next response.
func (n *node) endpointsBy(protocol string) (refuse func(string), accept func()) {
	n.t.Helper()
	if protocol == "delta" {
		e := n.patient("mg")
		e.subscribe(xdsnode.Assignment, "api", "db")
		e.want(xdsnode.Assignment, []string{"api", "db"}, nil)
		return func(why string) {
				r := e.unanswered(xdsnode.Assignment, []string{"api"}, nil)
				e.send(&discovery.DeltaDiscoveryRequest{
					TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: grpcstatus.New(codes.InvalidArgument, why).Proto(),
				})
			}, func() {
				e.want(xdsnode.Assignment, []string{"api"}, nil)
			}
	}
	stream, err := n.client.StreamAggregatedResources(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	e := n.whole(stream, "mg")
	e.subscribe(xdsnode.Assignment, "api", "db")
	e.want(xdsnode.Assignment, "api", "db")
	return func(why string) {
			e.receive(xdsnode.Assignment, "api", "db")
			e.ask(xdsnode.Assignment, why)
		}, func() {
			e.want(xdsnode.Assignment, "api", "db")
		}
}

// Of several resources that are refused together, the one that the Envoy does not name
// is found.
func TestReportsTheOneThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := reporting(t)
		n.change(gateway("n1"))
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		e.want(xdsnode.Cluster, nil, nil)
		h.skip()
		n.change(all(name("a", nil), name("b", nil), name("c", nil), name("d", nil)))
		answer := func(why string, names ...string) {
			r := e.unanswered(xdsnode.Cluster, names, nil)
			ack := &discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
			if why != "" {
				ack.ErrorDetail = grpcstatus.New(codes.InvalidArgument, why).Proto()
			}
			e.send(ack)
		}
		answer("one is malformed", "a", "b", "c", "d")
		h.want(t, "n1/mg at 1", "node at 2", "n1/mg at 1, refused Cluster a, b, c and 1 more of 2")
		answer("", "a", "b")
		answer("one is malformed", "c", "d")
		answer("it is malformed", "c")
		answer("", "d")
		synctest.Wait()
		h.mu.Lock()
		last := h.lines[len(h.lines)-1]
		h.mu.Unlock()
		if want := "n1/mg at 1, refused Cluster c of 2"; last != want {
			t.Errorf("%s; want %s", last, want)
		}
	})
}

// The version is that of the content: whatever the protocol, the node, and the way there.
func TestReportsVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := reporting(t)
		n.change(all(gateway("n1"), name("api", nil), set("api", "10.1.0.1")))
		e := n.patient("mg")
		e.subscribe(xdsnode.Cluster, "*")
		r := e.want(xdsnode.Cluster, []string{"api"}, nil)
		first := h.version("n1/mg")
		n.change(name("db", nil))
		e.want(xdsnode.Cluster, []string{"db"}, nil)
		more := h.version("n1/mg")
		n.change(values{isthmusv1.NameKey(&isthmusv1.ServiceRef{Name: "db"}, ""): nil})
		e.want(xdsnode.Cluster, nil, []string{"db"})
		if again := h.version("n1/mg"); first == "" || first == more || again != first {
			t.Errorf("%q, then with another cluster %q, then without it %q", first, more, again)
		}

		t.Log("a second stream of the proxy counts from its beginning; the end of the first one is no end")
		back := n.patient("mg")
		back.send(&discovery.DeltaDiscoveryRequest{
			TypeUrl: string(xdsnode.Cluster), ResourceNamesSubscribe: []string{"*"},
			InitialResourceVersions: map[string]string{"api": r.GetResources()[0].GetVersion()},
		})
		h.skip()
		if err := e.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		h.want(t)
		if got := h.version("n1/mg"); got != first {
			t.Errorf("with what it brought it has %q, want %q", got, first)
		}
		if err := back.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		h.want(t, "n1/mg gone")

		stream, err := n.client.StreamAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		whole := n.whole(stream, "mg")
		whole.subscribe(xdsnode.Cluster)
		whole.want(xdsnode.Cluster, "api")
		if got := h.version("n1/mg"); got != first {
			t.Errorf("by the other protocol it has %q, want %q", got, first)
		}
		h.skip()
		n.stop()
		h.want(t, "n1/mg gone")
	})
}
