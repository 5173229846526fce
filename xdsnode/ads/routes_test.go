package ads

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// served is what a proxy is served, by type and name: versions, and the names that each
// refers to.
type served map[xdsnode.Type]map[string]*xdsnode.Resource

func newServed() served {
	out := served{}
	for _, t := range xdsnode.Types() {
		out[t] = map[string]*xdsnode.Resource{}
	}
	return out
}

func (s served) set(t xdsnode.Type, name, version string, refs ...string) {
	s[t][name] = &xdsnode.Resource{Type: t, Name: name, Version: version, Refs: refs, Body: &anypb.Any{Value: []byte(name)}}
}

// stream is a conversation without a connection: what is sent is kept to be looked at.
type stream struct {
	t       *testing.T
	served  served
	session *session
	by      interface{ send() error }
	sent    []string
	// meanwhile happens just before something is looked up.
	meanwhile func(xdsnode.Type)
}

func (s *stream) begin() *stream {
	s.served = newServed()
	s.session = &session{
		log: slog.New(slog.DiscardHandler), changed: map[xdsnode.Type]map[string]bool{}, wake: make(chan struct{}, 1),
		look: func(t xdsnode.Type, names []string) ([]*xdsnode.Resource, error) {
			if s.meanwhile != nil {
				s.meanwhile(t)
			}
			if err := s.session.stale(); err != nil {
				return nil, err
			}
			out := make([]*xdsnode.Resource, len(names))
			for i, name := range names {
				out[i] = s.served[t][name]
			}
			return out, nil
		},
		names: func(t xdsnode.Type) []string { return slices.Sorted(maps.Keys(s.served[t])) },
	}
	s.served.set(xdsnode.Cluster, "api", "1", "api")
	s.served.set(xdsnode.Assignment, "api", "1")
	s.served.set(xdsnode.Listener, "public", "1")
	s.served.set(xdsnode.Listener, "web", "1", "web-routes")
	s.served.set(xdsnode.Route, "web-routes", "1")
	return s
}

// changed says that resources have.
func (s *stream) changed(t xdsnode.Type, names ...string) {
	s.session.note(map[xdsnode.Type][]string{t: names}, nil, nil)
}

func short(typeURL string) string { return typeURL[strings.LastIndex(typeURL, ".")+1:] }

// want sends what is due, and wants it to be that, each as TYPE NAME… and -NAME….
func (s *stream) want(want ...string) {
	s.t.Helper()
	s.sent = nil
	if err := fresh(s.by.send); err != nil {
		s.t.Fatal(err)
	}
	if !slices.Equal(s.sent, want) {
		s.t.Fatalf("sent %q, want %q", s.sent, want)
	}
}

// deltaTalk asks by the delta protocol.
type deltaTalk struct {
	*stream
	on     *deltaStream
	nonces map[xdsnode.Type]string
}

func talkDelta(t *testing.T) *deltaTalk {
	out := &deltaTalk{stream: (&stream{t: t}).begin(), nonces: map[xdsnode.Type]string{}}
	out.on = &deltaStream{session: out.session, types: map[xdsnode.Type]*subscription{}, answer: func(r *discovery.DeltaDiscoveryResponse) error {
		said := short(r.GetTypeUrl())
		for _, x := range r.GetResources() {
			said += " " + x.GetName()
		}
		for _, name := range r.GetRemovedResources() {
			said += " -" + name
		}
		out.sent, out.nonces[xdsnode.Type(r.GetTypeUrl())] = append(out.sent, said), r.GetNonce()
		return nil
	}}
	for _, typ := range xdsnode.Types() {
		out.on.types[typ] = newSubscription(typ)
	}
	out.by = out.on
	return out
}

func (d *deltaTalk) subscribe(t xdsnode.Type, has map[string]string, names ...string) {
	d.on.take(&discovery.DeltaDiscoveryRequest{TypeUrl: string(t), ResourceNamesSubscribe: names, InitialResourceVersions: has})
}

func (d *deltaTalk) acknowledge(types ...xdsnode.Type) {
	for _, t := range types {
		d.on.take(&discovery.DeltaDiscoveryRequest{TypeUrl: string(t), ResponseNonce: d.nonces[t]})
	}
}

// start has an Envoy take in all, as it does.
func (d *deltaTalk) start() *deltaTalk {
	d.t.Helper()
	d.subscribe(xdsnode.Cluster, nil, "*")
	d.want("Cluster api")
	d.subscribe(xdsnode.Assignment, nil, "api")
	d.want("ClusterLoadAssignment api")
	d.subscribe(xdsnode.Listener, nil, "*")
	d.want()
	d.acknowledge(xdsnode.Cluster, xdsnode.Assignment)
	d.want("Listener public web")
	d.subscribe(xdsnode.Route, nil, "web-routes")
	d.want("RouteConfiguration web-routes")
	d.acknowledge(xdsnode.Listener, xdsnode.Route)
	d.want()
	return d
}

// A listener that was sent again has its routes sent again, though they are the same,
// and no others.
func TestDeltaSendsRoutesWithTheirListener(t *testing.T) {
	d := talkDelta(t).start()
	d.served.set(xdsnode.Listener, "public", "2")
	d.changed(xdsnode.Listener, "public")
	d.want("Listener public")
	d.acknowledge(xdsnode.Listener)
	d.served.set(xdsnode.Listener, "web", "2", "web-routes")
	d.changed(xdsnode.Listener, "web")
	d.want("Listener web", "RouteConfiguration web-routes")
	d.acknowledge(xdsnode.Listener, xdsnode.Route)
	d.changed(xdsnode.Route, "web-routes")
	d.want()
}

// Routes lead to no cluster that was not taken in, and a cluster goes when the routes that
// lead elsewhere were.
func TestDeltaRoutesBetweenClusters(t *testing.T) {
	d := talkDelta(t).start()
	d.served.set(xdsnode.Cluster, "new", "1", "new")
	d.served.set(xdsnode.Assignment, "new", "1")
	d.served.set(xdsnode.Route, "web-routes", "2")
	delete(d.served[xdsnode.Cluster], "api")
	delete(d.served[xdsnode.Assignment], "api")
	d.changed(xdsnode.Cluster, "api", "new")
	d.changed(xdsnode.Assignment, "api", "new")
	d.changed(xdsnode.Route, "web-routes")
	d.want("Cluster new")
	d.subscribe(xdsnode.Assignment, nil, "new")
	d.want("ClusterLoadAssignment new")
	d.acknowledge(xdsnode.Cluster)
	d.want()
	d.acknowledge(xdsnode.Assignment)
	d.want("RouteConfiguration web-routes")
	d.acknowledge(xdsnode.Route)
	d.want("Cluster -api")
	d.acknowledge(xdsnode.Cluster)
	d.want("ClusterLoadAssignment -api")
}

// next has a route lead to a new cluster, when routes are about to be looked up for
// another reason.
func (s *stream) next() {
	s.served.set(xdsnode.Route, "web-routes", "2")
	s.changed(xdsnode.Route, "web-routes")
	s.meanwhile = func(t xdsnode.Type) {
		if t != xdsnode.Route {
			return
		}
		s.meanwhile = nil
		s.served.set(xdsnode.Cluster, "new", "1", "new")
		s.served.set(xdsnode.Route, "web-routes", "3")
		s.session.note(map[xdsnode.Type][]string{xdsnode.Cluster: {"new"}, xdsnode.Route: {"web-routes"}}, nil, nil)
	}
}

// Routes that change while they are looked up, with a cluster, still come after it.
func TestDeltaRoutesChangeMeanwhile(t *testing.T) {
	d := talkDelta(t).start()
	d.next()
	d.want("Cluster new")
	d.acknowledge(xdsnode.Cluster)
	d.want("RouteConfiguration web-routes")
}

// What goes is taken away from above: the listener, its routes, their clusters.
func TestDeltaTakesRoutesAwayAfterTheirListener(t *testing.T) {
	d := talkDelta(t).start()
	for _, typ := range []xdsnode.Type{xdsnode.Cluster, xdsnode.Route} {
		names := slices.Collect(maps.Keys(d.served[typ]))
		clear(d.served[typ])
		d.changed(typ, names...)
	}
	delete(d.served[xdsnode.Listener], "web")
	d.changed(xdsnode.Listener, "web")
	d.want("Listener -web")
	d.acknowledge(xdsnode.Listener)
	d.want("RouteConfiguration -web-routes")
	d.acknowledge(xdsnode.Route)
	d.want("Cluster -api")
}

// An Envoy that comes back is sent no routes that it has; but those of a listener that is
// another than it has.
func TestDeltaRoutesAfterAReturn(t *testing.T) {
	for _, test := range []struct {
		listener string
		want     []string
	}{{"1", nil}, {"0", []string{"RouteConfiguration web-routes"}}} {
		d := talkDelta(t)
		has := map[string]string{"api": "1"}
		d.subscribe(xdsnode.Cluster, has, "*")
		d.subscribe(xdsnode.Assignment, has, "api")
		d.subscribe(xdsnode.Listener, map[string]string{"public": "1", "web": test.listener}, "*")
		if test.listener == "1" {
			d.want()
		} else {
			d.want("Listener web")
		}
		d.subscribe(xdsnode.Route, map[string]string{"web-routes": "1"}, "web-routes")
		d.want(test.want...)
	}
}
