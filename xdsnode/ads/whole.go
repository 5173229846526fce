package ads

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// wholeStream is one Envoy, or another client, that asks for all of a type at a time
// ("state of the world").
type wholeStream struct {
	*session
	answer func(*discovery.DiscoveryResponse) error
	types  map[xdsnode.Type]*whole
}

// whole is what one stream wants of one type, and was sent.
type whole struct {
	begun bool
	// all: everything of the type; else names are what of it.
	all   bool
	names map[string]bool
	// version of what the client has, or has refused.
	version string
	// nonce of the last response, and whether it was not answered yet.
	nonce   string
	waiting bool
	// due: it may be other than it was; again: it is sent though it is the same.
	due, again bool
	// sent are the versions of the resources in the last response.
	sent map[string]string
	// had are the clusters in the last response; late: some of them are there no more, and
	// are left in until all else was answered.
	had  map[string]*xdsnode.Resource
	late bool

	// content is what the client really has, which is not what it was sent when it has
	// refused that.
	content content
	refused bool
	// sending is the point from which the last response came, reached the newest point of
	// which the client has all.
	sending, reached *point
}

// StreamAggregatedResources implements the service.
func (s *Server) StreamAggregatedResources(with discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return serve(with.Context(), s, with.Recv, func(session *session) protocol[*discovery.DiscoveryRequest] {
		st := &wholeStream{session: session, answer: with.Send, types: map[xdsnode.Type]*whole{}}
		for _, t := range xdsnode.Types() {
			st.types[t] = &whole{}
		}
		return st
	})
}

// take takes a request. One that answers an older response than the last says nothing
// that still counts.
func (st *wholeStream) take(r *discovery.DiscoveryRequest) {
	w := st.types[xdsnode.Type(r.GetTypeUrl())]
	switch {
	case w == nil:
		st.unserved(r.GetTypeUrl())
		return
	case w.begun && r.GetResponseNonce() != w.nonce:
		return
	}
	st.answered(xdsnode.Type(r.GetTypeUrl()), w, r.GetErrorDetail() != nil, r.GetErrorDetail().GetMessage())
	names := map[string]bool{}
	for _, name := range r.GetResourceNames() {
		names[name] = true
	}
	if !w.begun {
		// What it has from another node has the version that it would have from here.
		w.begun, w.due, w.version = true, true, r.GetVersionInfo()
		w.all, w.names = len(names) == 0 || names[all], names
		return
	}
	if len(w.names) == 0 && len(names) == 0 || maps.Equal(names, w.names) {
		return // Everything still, or the same.
	}
	for name := range names {
		// A name that is new is answered, though all that there is should be the same.
		w.again = w.again || !w.names[name]
	}
	w.names, w.all, w.due = names, names[all], true
}

// answered takes the answer to the last response, if it is one.
func (st *wholeStream) answered(t xdsnode.Type, w *whole, refused bool, why string) {
	waited := w.waiting
	w.waiting = false
	switch {
	case !waited:
	case refused:
		w.refused, w.reached = true, w.reached.before(w.sending)
		st.refused(t, slices.Sorted(maps.Keys(w.sent)), why, w.sending)
	default:
		w.has(t, w.sent)
		if !w.late {
			w.reached = w.sending
		}
	}
}

// has takes note of what the client has.
func (w *whole) has(t xdsnode.Type, resources map[string]string) {
	w.refused, w.content = false, content{}
	for name, version := range resources {
		w.content = w.content.plus(contentOf(t, name, version))
	}
}

// quiet reports whether the client has answered all but for what is gone, and settled
// whether that was taken away too.
func (w *whole) quiet() bool   { return !w.begun || !w.waiting && !w.due }
func (w *whole) settled() bool { return w.quiet() && !w.late }

func (st *wholeStream) settled() bool { return st.every((*whole).settled) }

func (st *wholeStream) every(is func(*whole) bool) bool {
	for _, w := range st.types {
		if !is(w) {
			return false
		}
	}
	return true
}

// stand is what the client has taken in.
func (st *wholeStream) stand() standing {
	out := standing{at: st.taken}
	for _, w := range st.types {
		if !w.begun {
			continue
		}
		if w.settled() && !w.refused {
			w.reached = st.taken
		}
		out.at = earlier(out.at, w.reached)
		out.content = out.content.plus(w.content)
		out.refusing = out.refusing || w.refused
	}
	return out
}

// send sends what is due in the order of the types. Clusters that are gone stay in what is
// sent until all else was answered, since routes may lead to them.
func (st *wholeStream) send() error {
	for t := range st.noted() {
		st.types[t].due = true
	}
	for _, t := range xdsnode.Types() {
		if (t == xdsnode.Listener || t == xdsnode.Route) && (st.types[xdsnode.Cluster].waiting || st.types[xdsnode.Assignment].waiting) {
			continue // It may lead to what the Envoy has not taken in yet.
		}
		if err := st.sendType(t); err != nil {
			return err
		}
	}
	if clusters := st.types[xdsnode.Cluster]; clusters.late && st.every((*whole).quiet) {
		clusters.due, clusters.had = true, nil
		return st.sendType(xdsnode.Cluster)
	}
	return nil
}

func (st *wholeStream) sendType(t xdsnode.Type) error {
	w := st.types[t]
	if !w.begun || w.waiting || !w.due {
		return nil
	}
	w.due = false
	names := slices.Sorted(maps.Keys(w.names))
	if w.all {
		names = st.names(t)
	}
	resources, err := st.look(t, names)
	if err != nil {
		return err
	}
	response := &discovery.DiscoveryResponse{TypeUrl: string(t)}
	found, awaited := map[string]string{}, []string(nil)
	for _, r := range w.withLate(t, resources) {
		response.Resources = append(response.Resources, r.Body)
		found[r.Name] = r.Version
		if w.sent[r.Name] != r.Version {
			awaited = append(awaited, r.Refs...)
		}
	}
	response.VersionInfo = versionOf(found)
	fewer := (t == xdsnode.Assignment || t == xdsnode.Route) && (!w.all && len(w.names) == 0 || within(found, w.sent))
	if !w.again && (fewer || response.GetVersionInfo() == w.version) {
		w.version, w.sent = response.GetVersionInfo(), found // It has that, and perhaps more, which it gave up.
		if !w.refused {
			w.has(t, found)
		}
		return nil
	}
	if len(awaited) > 0 {
		st.types[t.Awaited()].follow(awaited)
	}
	w.version, w.again, w.sent, w.waiting = response.GetVersionInfo(), false, found, true
	w.nonce, w.sending = st.nonce(), st.taken
	response.Nonce = w.nonce
	return st.answer(response)
}

// withLate are resources, of which those that are not there are nil, with the clusters that
// are to stay for now, sorted by name.
func (w *whole) withLate(t xdsnode.Type, found []*xdsnode.Resource) []*xdsnode.Resource {
	out := slices.DeleteFunc(found, func(r *xdsnode.Resource) bool { return r == nil })
	if t != xdsnode.Cluster {
		return out
	}
	now := make(map[string]*xdsnode.Resource, len(out))
	for _, r := range out {
		now[r.Name] = r
	}
	w.late = false
	for name, r := range w.had {
		if now[name] == nil && (w.all || w.names[name]) {
			now[name], w.late = r, true
		}
	}
	w.had = now
	if !w.late {
		return out
	}
	return slices.SortedFunc(maps.Values(now), func(a, b *xdsnode.Resource) int { return cmp.Compare(a.Name, b.Name) })
}

// within reports whether all assignments, or routes, are among those that were sent. Of
// other types one that is missing is one that is gone, and that has to be said.
func within(found, sent map[string]string) bool {
	for name, version := range found {
		if sent[name] != version {
			return false
		}
	}
	return len(found) > 0
}

// follow has assignments sent again when a cluster that they are of was sent, and routes
// with their listener: an Envoy waits for them, though it has them. Before they were
// asked for, they are sent when they are.
func (w *whole) follow(names []string) {
	for _, name := range names {
		if w.names[name] || !w.begun {
			w.due, w.again = true, true
		}
	}
}

// versionOf is the version of resources together.
func versionOf(found map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(found)) {
		h.Write([]byte(name + "\x00" + found[name] + "\x00"))
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
