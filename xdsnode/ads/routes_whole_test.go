package ads

import (
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// wholeTalk asks by the protocol that sends all of a type at a time.
type wholeTalk struct {
	*stream
	on               *wholeStream
	names            map[xdsnode.Type][]string
	nonces, versions map[xdsnode.Type]string
}

func talkWhole(t *testing.T) *wholeTalk {
	out := &wholeTalk{
		stream: (&stream{t: t}).begin(), names: map[xdsnode.Type][]string{},
		nonces: map[xdsnode.Type]string{}, versions: map[xdsnode.Type]string{},
	}
	out.on = &wholeStream{session: out.session, types: map[xdsnode.Type]*whole{}, answer: func(r *discovery.DiscoveryResponse) error {
		said := short(r.GetTypeUrl())
		for _, x := range r.GetResources() {
			said += " " + string(x.GetValue())
		}
		typ := xdsnode.Type(r.GetTypeUrl())
		out.sent, out.nonces[typ], out.versions[typ] = append(out.sent, said), r.GetNonce(), r.GetVersionInfo()
		return nil
	}}
	for _, typ := range xdsnode.Types() {
		out.on.types[typ] = &whole{}
	}
	out.by = out.on
	return out
}

// acknowledge answers what was sent last of each type, with the names that are asked for.
func (w *wholeTalk) acknowledge(types ...xdsnode.Type) {
	for _, t := range types {
		w.on.take(&discovery.DiscoveryRequest{
			TypeUrl: string(t), ResourceNames: w.names[t], ResponseNonce: w.nonces[t], VersionInfo: w.versions[t],
		})
	}
}

func (w *wholeTalk) subscribe(t xdsnode.Type, names ...string) {
	w.names[t] = names
	w.acknowledge(t)
}

func (w *wholeTalk) start() *wholeTalk {
	w.t.Helper()
	w.subscribe(xdsnode.Cluster)
	w.want("Cluster api")
	w.subscribe(xdsnode.Assignment, "api")
	w.want("ClusterLoadAssignment api")
	w.acknowledge(xdsnode.Cluster, xdsnode.Assignment)
	w.subscribe(xdsnode.Listener)
	w.want("Listener public web")
	w.subscribe(xdsnode.Route, "web-routes")
	w.want("RouteConfiguration web-routes")
	w.acknowledge(xdsnode.Listener, xdsnode.Route)
	w.want()
	return w
}

// A listener that was sent again takes its routes along; another one, which has none,
// does not.
func TestWholeSendsRoutesWithTheirListener(t *testing.T) {
	w := talkWhole(t).start()
	w.served.set(xdsnode.Listener, "public", "2")
	w.changed(xdsnode.Listener, "public")
	w.want("Listener public web")
	w.acknowledge(xdsnode.Listener)
	w.served.set(xdsnode.Listener, "web", "2", "web-routes")
	w.changed(xdsnode.Listener, "web")
	w.want("Listener public web", "RouteConfiguration web-routes")
	w.acknowledge(xdsnode.Listener, xdsnode.Route)
	w.changed(xdsnode.Route, "web-routes")
	w.want()
}

// Routes lead to no cluster that was not taken in.
func TestWholeRoutesAfterClusters(t *testing.T) {
	w := talkWhole(t).start()
	w.served.set(xdsnode.Cluster, "new", "1", "new")
	w.served.set(xdsnode.Assignment, "new", "1")
	w.served.set(xdsnode.Route, "web-routes", "2")
	w.changed(xdsnode.Cluster, "new")
	w.changed(xdsnode.Route, "web-routes")
	w.want("Cluster api new")
	w.acknowledge(xdsnode.Cluster)
	w.subscribe(xdsnode.Assignment, "api", "new")
	w.want("ClusterLoadAssignment api new")
	w.acknowledge(xdsnode.Assignment)
	w.want("RouteConfiguration web-routes")
}

// Routes that change while they are looked up, with a cluster, still come after it.
func TestWholeRoutesChangeMeanwhile(t *testing.T) {
	w := talkWhole(t).start()
	w.next()
	w.want("Cluster api new")
	w.acknowledge(xdsnode.Cluster)
	w.want("RouteConfiguration web-routes")
}

// A cluster that is gone stays until the routes that led to it were answered, whatever
// else comes; then it is missing. One that comes back meanwhile was never away.
func TestWholeTakesClustersAwayLast(t *testing.T) {
	w := talkWhole(t).start()
	move := func(version, from, to string) {
		delete(w.served[xdsnode.Cluster], from)
		w.served.set(xdsnode.Cluster, to, version, to)
		w.served.set(xdsnode.Assignment, to, "1")
		w.served.set(xdsnode.Route, "web-routes", version)
		w.session.note(map[xdsnode.Type][]string{xdsnode.Cluster: {from, to}, xdsnode.Route: {"web-routes"}}, nil, nil)
	}
	move("2", "api", "new")
	w.want("Cluster api new")
	w.acknowledge(xdsnode.Cluster)
	w.subscribe(xdsnode.Assignment, "api", "new")
	w.want("ClusterLoadAssignment api new")
	w.served.set(xdsnode.Cluster, "other", "1")
	w.changed(xdsnode.Cluster, "other")
	w.want("Cluster api new other")
	w.acknowledge(xdsnode.Cluster)
	w.want()
	w.acknowledge(xdsnode.Assignment)
	w.want("RouteConfiguration web-routes")
	if w.on.settled() {
		t.Error("it is said to be settled, and a cluster is to go")
	}
	w.acknowledge(xdsnode.Route)
	w.want("Cluster new other")
	w.acknowledge(xdsnode.Cluster)
	w.want()

	w.served.set(xdsnode.Route, "web-routes", "3")
	delete(w.served[xdsnode.Cluster], "new")
	w.session.note(map[xdsnode.Type][]string{xdsnode.Cluster: {"new"}, xdsnode.Route: {"web-routes"}}, nil, nil)
	w.want("RouteConfiguration web-routes")
	w.served.set(xdsnode.Cluster, "new", "2", "new")
	w.changed(xdsnode.Cluster, "new")
	w.acknowledge(xdsnode.Route)
	w.want()
	if !w.on.settled() {
		t.Error("it is not settled")
	}
}

// Routes that are fewer are no news; a name that is new is answered at an equal version.
func TestWholeRoutesAreAskedByName(t *testing.T) {
	w := talkWhole(t).start()
	w.served.set(xdsnode.Route, "api-routes", "1")
	w.subscribe(xdsnode.Route, "api-routes", "web-routes")
	w.want("RouteConfiguration api-routes web-routes")
	w.acknowledge(xdsnode.Route)
	delete(w.served[xdsnode.Route], "api-routes")
	w.changed(xdsnode.Route, "api-routes")
	w.want()
	w.subscribe(xdsnode.Route, "web-routes")
	w.want()
}

// A client that comes back is sent no routes that it has; but those of a listener that is
// another than it has.
func TestWholeRoutesAfterAReturn(t *testing.T) {
	first := talkWhole(t).start()
	same := talkWhole(t)
	same.versions = first.versions
	same.subscribe(xdsnode.Listener)
	same.subscribe(xdsnode.Route, "web-routes")
	same.want()
	other := talkWhole(t)
	other.versions = map[xdsnode.Type]string{xdsnode.Listener: "another", xdsnode.Route: first.versions[xdsnode.Route]}
	other.subscribe(xdsnode.Listener)
	other.want("Listener public web")
	other.subscribe(xdsnode.Route, "web-routes")
	other.want("RouteConfiguration web-routes")
}
