package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// ProxyStatus is one proxy.
type ProxyStatus struct {
	Datacenter string `json:"datacenter"`
	// Proxy is NODE/ID.
	Proxy   string `json:"proxy"`
	Service string `json:"service"`
	Kind    string `json:"kind"`
	// Registered says whether the routes have it; Connected whether its reporter
	// says that it runs, and Reporter who that is, like sidecar/NAME.
	Registered bool   `json:"registered"`
	Connected  bool   `json:"connected"`
	Reporter   string `json:"reporter"`
	// XDSNode is the xds node that an Envoy is connected to, or was last.
	XDSNode string `json:"xds_node"`
	// Version is of an Envoy the hash of what it has.
	Version string `json:"version"`
	// Basis is that of the routes that it runs, by stream; null while it is not known.
	Basis map[string]AnswerPosition `json:"basis"`
	Progress
	// Behind is how far it is behind the routes; null when that is not known.
	Behind *Behind `json:"behind"`
	// Problems that its routes state of it, and the last refusal.
	Problems []AnswerProblem `json:"problems"`
	LastNack *NackStatus     `json:"last_nack"`

	at *isthmusv1.Position
}

// Behind is how far something is behind the routes: how many messages of them it has not
// got yet, and how long ago the first of these was written.
type Behind struct {
	Events       uint64 `json:"events"`
	Milliseconds int64  `json:"ms"`
}

// NackStatus is a refusal.
type NackStatus struct {
	Time     time.Time `json:"time"`
	Resource string    `json:"resource"`
	Detail   string    `json:"detail"`
	// Cause is the sequence of the routes from which came what was refused.
	Cause uint64 `json:"cause"`
	// Over: that was replaced or taken away since.
	Over bool `json:"over"`
}

// proxyStatuses lists the proxies that have routes, then those that report and
// have none. A mesh gateway is among them when somebody reports of it.
func proxyStatuses(datacenter string, routes snapshot, reports []*report) []ProxyStatus {
	out := []ProxyStatus{}
	known := map[string]bool{}
	for _, p := range sorted[*isthmusv1.ProxyRoutes](routes, isthmusv1.KindProxy) {
		s := ProxyStatus{
			Datacenter: datacenter, Proxy: p.GetNode() + "/" + p.GetId(), Service: shown(p.GetService()), Kind: p.GetKind(),
			Registered: true, Progress: Progress{Head: routes.head}, Problems: newProblems(p.GetProblems()),
		}
		known[strings.ToLower(s.Proxy)] = true
		if !s.take(reports) && !s.takeGateway(reports) && p.GetKind() == isthmusv1.InstanceKindMeshGateway {
			continue
		}
		out = append(out, s)
	}
	for _, r := range reports {
		for name, p := range r.proxies {
			if known[name] {
				continue
			}
			known[name] = true
			s := ProxyStatus{Datacenter: datacenter, Proxy: p.GetProxy(), Kind: p.GetKind(), Progress: Progress{Head: routes.head}, Problems: []AnswerProblem{}}
			s.take(reports)
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b ProxyStatus) int { return cmp.Compare(a.Proxy, b.Proxy) })
	return out
}

// take takes in what counts of all that is reported of the proxy, if anything is.
func (s *ProxyStatus) take(reports []*report) bool {
	r, p := speaker(reports, s.Proxy)
	if r == nil {
		return false
	}
	routes, basis := r.where(p)
	s.Connected, s.Reporter, s.Version = p.GetConnected(), r.role+"/"+r.name, p.GetVersion()
	if r.role == "xds" {
		s.XDSNode = r.name
	}
	s.stand(r, routes, basis)
	if n := p.GetLastNack(); n != nil {
		s.LastNack = &NackStatus{
			Time: n.GetTime().AsTime(), Resource: n.GetResource(), Detail: n.GetDetail(), Cause: n.GetCause().GetSequence(), Over: n.GetOver(),
		}
	}
	return true
}

// stand notes how far it is by a report.
func (s *ProxyStatus) stand(r *report, routes *isthmusv1.Position, basis *isthmusv1.Basis) {
	s.at, s.Routes, s.Age = routes, routes.GetSequence(), &r.age
	if basis != nil {
		s.Basis = positionsOf(basis)
	}
}

// BasisText shows the basis for people: CATALOG_dc1@12 CATALOG_dc2@7.
func (s *ProxyStatus) BasisText() string {
	var parts []string
	for _, stream := range slices.Sorted(maps.Keys(s.Basis)) {
		parts = append(parts, fmt.Sprintf("%s@%d", stream, s.Basis[stream].Sequence))
	}
	return strings.Join(parts, " ")
}

// takeGateway takes in what a Go gateway reports that runs by this registration.
func (s *ProxyStatus) takeGateway(reports []*report) bool {
	for _, r := range reports {
		if r.gateway == nil || !strings.EqualFold(r.gateway.GetProxy(), s.Proxy) {
			continue
		}
		s.Connected, s.Reporter = r.gateway.GetState() == "serving", r.role+"/"+r.name
		s.stand(r, r.gateway.GetRoutes(), r.gateway.GetBasis())
		return true
	}
	return false
}

// EnvoyAway is the state of a gateway whose Envoy is connected to no xds node.
const EnvoyAway = "not connected"

// takeEnvoy takes in what an xds node reports of an Envoy that is the gateway.
func (g *GatewayStatus) takeEnvoy(reports []*report) {
	r, p := speaker(reports, g.Name)
	if r == nil {
		return
	}
	routes, _ := r.where(p)
	g.State, g.Routes, g.Age = "connected to "+r.role+"/"+r.name, routes.GetSequence(), &r.age
	if !p.GetConnected() {
		g.State = EnvoyAway
	}
}

// measure finds out how far each proxy is behind the routes.
func (s *Status) measure(ctx context.Context, log bus.Log, routes snapshot, now time.Time) error {
	stream := isthmusv1.StreamName(isthmusv1.ClassRoutes, s.Datacenter)
	since := map[uint64]int64{}
	for i := range s.Proxies {
		p := &s.Proxies[i]
		if p.at == nil || p.at.GetIncarnation() != "" && p.at.GetIncarnation() != routes.incarnation {
			continue
		}
		p.Behind = &Behind{}
		if p.Routes >= routes.head {
			continue
		}
		age, known := since[p.Routes]
		if !known {
			written, err := writtenAt(ctx, log, stream, p.Routes+1)
			if err != nil {
				return err
			}
			if !written.IsZero() {
				age = max(now.Sub(written).Milliseconds(), 0)
			}
			since[p.Routes] = age
		}
		p.Behind = &Behind{Events: routes.head - p.Routes, Milliseconds: age}
	}
	return nil
}

// writtenAt is when the message of a sequence was written; if the log no longer has it,
// the first one after it that it has.
func writtenAt(ctx context.Context, log bus.Log, stream string, sequence uint64) (time.Time, error) {
	for _, from := range []uint64{sequence, 0} {
		for m, err := range log.History(ctx, stream, from, sequence) {
			if errors.Is(err, bus.ErrNotRetained) || errors.Is(err, bus.ErrGap) {
				break
			}
			return m.Time, err
		}
	}
	return time.Time{}, nil // The log has nothing to tell.
}
