package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/sidecar"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// demoRequests is how many requests go to each upstream, each over a connection
// of its own.
const demoRequests = 20

// demoClient is the proxy whose upstreams the demo uses.
const demoClient = "dc1-web-1/web-sidecar-proxy"

// demoUpstreams are the upstreams, and the mode and the level that it is to
// come from.
var demoUpstreams = []struct{ name, mode, says string }{
	{"api", "remote", "its upstream definition says so"},
	{"db", "local", "its upstream definition says so"},
	{"logging", "none", "its upstream definition says so"},
	{"search", "local", "no mode of its own, proxy-defaults says so"},
}

// wayOf is what a mode should look like in the access logs.
var wayOf = map[string]struct {
	path     isthmusv1.Path
	dc1, dc2 int // gateways on the way
}{
	"remote": {isthmusv1.Path_PATH_REMOTE_GATEWAY, 0, 1},
	"local":  {isthmusv1.Path_PATH_LOCAL_GATEWAY, 1, 1},
	"none":   {isthmusv1.Path_PATH_DIRECT, 0, 0},
}

// targets are the local listeners of the demo's client.
func (d *demoRun) targets() ([]loadTarget, error) {
	for _, s := range d.world.sidecars {
		if s.proxy() != demoClient {
			continue
		}
		var out []loadTarget
		for _, u := range s.instance.GetProxy().GetUpstreams() {
			address := hostPort(u.GetLocalBindAddress(), u.GetLocalBindPort())
			out = append(out, loadTarget{
				upstream: u.GetDestinationName(), url: "http://" + address + "/",
				want: u.GetDestinationName() + "@" + u.GetDatacenter(),
			})
		}
		return out, nil
	}
	return nil, fmt.Errorf("the catalog has no proxy %s", demoClient)
}

// up waits until every upstream answers.
func (d *demoRun) up(ctx context.Context) []fact {
	f := fact{Name: "everything is up"}
	targets, err := d.targets()
	for _, target := range targets {
		if err == nil {
			err = firstAnswer(ctx, target, 2*d.wait())
		}
	}
	versions, envoyErr := d.envoyVersions(ctx)
	err = errors.Join(err, envoyErr)
	events := make(map[string]uint64)
	for _, dc := range d.world.datacenters {
		for _, class := range []isthmusv1.Class{isthmusv1.ClassCatalog, isthmusv1.ClassRoutes} {
			if err == nil {
				stream := isthmusv1.StreamName(class, dc)
				state, stateErr := d.world.logs[0].State(ctx, stream)
				events[stream], err = state.Last, stateErr
			}
		}
	}
	took := time.Since(d.began)
	f.Holds = err == nil
	f.Sentence = fmt.Sprintf("up in %s: %s → events → routes → %d gateways and %d sidecars; every upstream of web answers",
		took.Round(time.Millisecond), strings.TrimPrefix(d.place(), "a "), len(d.world.gateways), len(d.world.sidecars))
	if err != nil {
		f.Saw = err.Error()
		return []fact{f}
	}
	var parts []string
	for _, stream := range slices.Sorted(maps.Keys(events)) {
		parts = append(parts, fmt.Sprintf("%s %d", stream, events[stream]))
	}
	f.Drawing = []string{"messages in the log: " + strings.Join(parts, ", ")}
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		f.Drawing = append(f.Drawing, fmt.Sprintf("%d Envoys are live, by their own word Envoy %s", versions[version], version))
	}
	f.Values = []measured{
		{"milliseconds", took.Milliseconds()}, {"messages", events}, {"dataplane", d.world.dataplane.kind}, {"envoys", versions},
	}
	return []fact{f}
}

// envoyVersions waits until every Envoy is live, and counts them by their versions.
func (d *demoRun) envoyVersions(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, d.wait())
	defer cancel()
	out := make(map[string]int)
	for _, e := range d.world.envoys() {
		if err := e.wait(ctx); err != nil {
			return nil, err
		}
		version, err := e.version(ctx)
		if err != nil {
			return nil, err
		}
		out[version]++
	}
	return out, nil
}

// firstAnswer asks until the upstream answers for the first time.
func firstAnswer(ctx context.Context, target loadTarget, wait time.Duration) error {
	client := newClient(false, nil)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := request(ctx, client, target)
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer: %w", target.upstream, err)
		}
	}
}

// paths sends requests to every upstream and states which way each went.
func (d *demoRun) paths(ctx context.Context) []fact {
	targets, err := d.targets()
	if err != nil {
		return []fact{{Name: "requests", Sentence: "requests go out", Saw: err.Error()}}
	}
	before, err := d.joined(ctx)
	began := window{d.world.records.mark(), time.Now()}
	went := make(map[string]sent)
	for _, target := range targets {
		went[target.upstream] = d.send(ctx, target)
	}
	var facts []fact
	want := map[string]uint64{}
	for _, u := range demoUpstreams {
		facts = append(facts, d.pathFact(ctx, began, u.name, u.mode, u.says, went[u.name]))
		want["dc1"] += uint64(demoRequests * wayOf[u.mode].dc1)
		want["dc2"] += uint64(demoRequests * wayOf[u.mode].dc2)
	}
	got, after := d.joined(ctx)
	if err = errors.Join(err, after); err != nil {
		return append(facts, fact{Name: "gateway counters agree", Sentence: "gateway counters agree", Saw: err.Error()})
	}
	for dc := range want {
		got[dc] -= before[dc]
	}
	counted := fact{
		Name:     "gateway counters agree",
		Holds:    got["dc1"] == want["dc1"] && got["dc2"] == want["dc2"],
		Sentence: fmt.Sprintf("gateway counters agree: %d connections in dc1, %d in dc2, not one more", want["dc1"], want["dc2"]),
		Saw:      fmt.Sprintf("%d connections in dc1, %d in dc2", got["dc1"], got["dc2"]),
		Values:   []measured{{"connections", got}},
	}
	return append(facts, counted)
}

// burst makes n requests, each over a new connection, without retries.
func burst(ctx context.Context, target loadTarget, n int) error {
	client := newClient(false, nil)
	for i := range n {
		if err := request(ctx, client, target); err != nil {
			return fmt.Errorf("request %d of %d: %w", i+1, n, err)
		}
	}
	return nil
}

// pathFact states which way the requests to one upstream went.
func (d *demoRun) pathFact(ctx context.Context, began window, upstream, mode, says string, went sent) fact {
	way := wayOf[mode]
	ctx, cancel := context.WithTimeout(ctx, d.wait())
	defer cancel()
	carried := d.world.records.await(ctx, began.mark, demoRequests, began.holds(outbound(upstream)))
	first := d.hop(ctx, began, went, "dc1", upstream, demoRequests*way.dc1)
	second := d.hop(ctx, began, went, "dc2", upstream, demoRequests*way.dc2)
	asModed := 0
	for _, s := range carried {
		if s.carried.Path == way.path && !s.carried.Reason.Refused() {
			asModed++
		}
	}
	drawn := []string{"web"}
	for _, h := range []hop{first, second} {
		if names := slices.Sorted(maps.Keys(h)); len(names) > 0 {
			drawn = append(drawn, strings.Join(names, " or "))
		}
	}
	drawn = append(drawn, upstream)
	f := fact{
		Name:  upstream + " goes " + mode,
		Holds: went.failure == nil && asModed == demoRequests && first.total() == demoRequests*way.dc1 && second.total() == demoRequests*way.dc2,
		Sentence: fmt.Sprintf("%-8s %-7s %d of %d requests answered, %d over gateways of dc1, %d over gateways of dc2 (%s)",
			upstream, mode, demoRequests, demoRequests, demoRequests*way.dc1, demoRequests*way.dc2, says),
		Drawing: []string{strings.Join(drawn, " ══▶ ")},
		Saw: fmt.Sprintf("%d connections with path %s, %d over gateways of dc1, %d of dc2; failure: %v",
			asModed, way.path.Name(), first.total(), second.total(), went.failure),
		Values: []measured{
			{"upstream", upstream}, {"mode", mode}, {"requests", demoRequests},
			{"gateway_connections", map[string]int{"dc1": first.total(), "dc2": second.total()}},
		},
	}
	return f
}

// window is a moment from which on connections count: a record comes when its
// connection ends, so the mark alone would take in connections from before.
type window struct {
	mark int
	time time.Time
}

// holds matches what the match matches, if its connection began in the window.
func (w window) holds(match func(seen) bool) func(seen) bool {
	return func(s seen) bool { return match(s) && s.start().After(w.time) }
}

// outbound matches what the client's sidecar carried to an upstream.
func outbound(upstream string) func(seen) bool {
	return func(s seen) bool {
		return s.carried != nil && s.proxy == demoClient && s.carried.Direction == sidecar.Outbound &&
			strings.HasPrefix(s.carried.Route, upstream+"@")
	}
}

// passedIn matches what gateways of a datacenter passed on to an upstream.
func passedIn(datacenter, upstream string) func(seen) bool {
	return func(s seen) bool {
		return s.passed != nil && s.datacenter == datacenter && !s.passed.Reason.Refused() &&
			strings.HasPrefix(strings.ToLower(s.passed.SNI), upstream+".")
	}
}
