package consul_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// persist registers again and again until the agent takes it, as somebody would
// while there is no leader.
func persist(w *world, agent *devagent.Agent, node, service string, port int) {
	w.t.Helper()
	var err error
	w.eventually(func() bool {
		err = agent.Call(w.t.Context(), http.MethodPut, "/v1/catalog/register", object{
			"Node": node, "Address": "10.0.0.1", "Service": object{"ID": service, "Service": service, "Port": port},
		}, nil)
		return err == nil
	}, func() string { return fmt.Sprintf("the registration is not taken: %v", err) })
}

// wantRising fails if an instance's ports, which the tests only raise, are written
// twice or go back: each event then was a change, and none was undone.
func (w *world) wantRising() {
	w.t.Helper()
	for name, ports := range w.instancePorts() {
		for i, port := range ports {
			if i > 0 && port <= ports[i-1] && strings.HasPrefix(name, "n") {
				w.t.Errorf("the ports of %s are written as %v", name, ports)
				break
			}
		}
	}
}

func fill(w *world, agent *devagent.Agent, port int) {
	for i := range 20 {
		persist(w, agent, fmt.Sprintf("n%d", i%5), fmt.Sprintf("s%d", i), port)
	}
}

func TestServerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{Durable: true})
	options := consul.Options{Address: agent.HTTP}
	w := newWorld(t)
	fill(w, agent, 1)
	p := w.watch("w1", options)
	w.wantEqual(options)
	n := len(w.events())
	for round := range 3 {
		agent.Kill()
		w.eventually(func() bool { return p.Status().Source != nil }, func() string { return "the source is not missed" })
		if err := agent.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Nothing changes, so that no query that waits would tell.
		w.eventually(func() bool { return p.Status().Source == nil }, func() string { return fmt.Sprintf("the source is missed: %v", p.Status().Source) })
		fill(w, agent, round+2)
		w.wantEqual(options)
	}
	w.wantTombstones(n)
	w.wantRising()
}

// The watcher's own server stays; another one leads from then on.
func TestLeaderChange(t *testing.T) {
	t.Parallel()
	servers := agenttest.StartCluster(t, devagent.Config{}, 3)
	leader, err := servers.Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	others := slices.DeleteFunc(slices.Clone(servers), func(a *devagent.Agent) bool { return a == leader })
	options := consul.Options{Address: others[0].HTTP}
	w := newWorld(t)
	fill(w, others[0], 1)
	w.watch("w1", options)
	w.watch("w2", consul.Options{Address: others[1].HTTP})
	w.wantEqual(options)
	n := len(w.events())
	leader.Kill()
	fill(w, others[1], 2)
	w.wantEqual(options)
	if err := leader.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(w, leader, 3)
	w.wantEqual(options)
	w.wantTombstones(n)
	w.wantRising()
}

// A restore takes the indexes back. What it undoes is written as what it is, the
// source epoch is raised, and later changes are seen as before.
func TestSnapshotRestore(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{Durable: true})
	options := consul.Options{Address: agent.HTTP}
	w := newWorld(t)
	fill(w, agent, 1)
	snapshot := raw(t, http.MethodGet, agent.HTTP+"/v1/snapshot", nil)
	w.watch("w1", options)
	w.watch("w2", options)
	w.wantEqual(options)
	fill(w, agent, 2)
	register(t, agent, "n9", "late", 1)
	deregister(t, agent, "n0", "s0")
	w.wantEqual(options)
	n := len(w.events())
	raw(t, http.MethodPut, agent.HTTP+"/v1/snapshot", snapshot)
	w.wantEqual(options)
	w.wantTombstones(n, "instance/n9/late", "node/n9")
	m := len(w.events())
	fill(w, agent, 7)
	register(t, agent, "n9", "late", 2)
	w.wantEqual(options)
	w.wantTombstones(m)
	w.wantSourceOrder()
}

// What a restore brings back is seen without a later write and before the next poll,
// also by the list of nodes, which is asked for with a pause in between and would then
// wait beyond an index of before.
func TestRestoreBetweenPolls(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{Durable: true})
	options := consul.Options{Address: agent.HTTP}
	w := newWorld(t)
	w.poll, w.list = time.Hour, 2*time.Second
	fill(w, agent, 1)
	snapshot := raw(t, http.MethodGet, agent.HTTP+"/v1/snapshot", nil)
	w.watch("w1", options)
	w.wantEqual(options)
	for i := range 5 {
		if err := agent.Call(t.Context(), http.MethodPut, "/v1/catalog/deregister", object{"Node": fmt.Sprintf("n%d", i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.wantEqual(options)
	raw(t, http.MethodPut, agent.HTTP+"/v1/snapshot", snapshot)
	w.wantEqual(options)
}

// wantSourceOrder fails if a value was seen before one of the same query that stands
// before it: at a lower index of the same source epoch, or in an earlier epoch. A
// restore whose indexes have gone back must have raised it; one after which Consul
// itself has written at once, and so at higher indexes, need not. What is gone has
// the index of another query, or none.
func (w *world) wantSourceOrder() {
	w.t.Helper()
	last := map[string]*isthmusv1.Source{}
	for _, e := range w.events() {
		r := new(isthmusv1.Record)
		if err := proto.Unmarshal(e.Record, r); err != nil {
			w.t.Fatal(err)
		}
		if r.GetTombstone() {
			continue
		}
		source := r.GetEnvelope().GetSource()
		before := last[source.GetQuery()]
		if cmp.Or(cmp.Compare(source.GetEpoch(), before.GetEpoch()), cmp.Compare(source.GetIndexAt(), before.GetIndexAt())) < 0 {
			w.t.Errorf("%s at %d was seen at %v, after %v", e.Key, e.Sequence, source, before)
		}
		last[source.GetQuery()] = source
	}
	w.t.Logf("the last source epoch is %d", last["node/n9"].GetEpoch())
}

func raw(t *testing.T, method, url string, body []byte) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", url, response.Status, err, answer)
	}
	return answer
}

// partition is how long the way to Consul is cut.
const partition = 60 * time.Second

// For a minute nothing passes between the watcher and its agent, neither bytes nor
// their end. Nothing is written of what was not seen; all of it is afterwards.
func TestPartition(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{})
	direct := consul.Options{Address: agent.HTTP}
	way := newWay(t, strings.TrimPrefix(agent.HTTP, "http://"))
	w := newWorld(t)
	fill(w, agent, 1)
	w.watch("w1", consul.Options{Address: "http://" + way.address()})
	w.wantEqual(direct)
	n := len(w.events())
	way.cut()
	// The length of the partition is what is asked for, so this one is slept.
	over := time.NewTimer(partition)
	defer over.Stop()
	fill(w, agent, 2)
	deregister(t, agent, "n1", "s1")
	<-over.C
	if got := len(w.events()); got != n {
		t.Errorf("%d events were written of what could not be seen", got-n)
	}
	way.heal()
	w.wantEqual(direct)
	w.wantTombstones(n, "instance/n1/s1")
	w.wantRising()
}

// An agent that comes back with nothing has nothing registered: that is true, is
// written, and is undone by registering again.
func TestAgentRestartedWithEmptyState(t *testing.T) {
	t.Parallel()
	server := agenttest.Start(t, devagent.Config{})
	client := agenttest.Start(t, server.ClientConfig("machine"))
	options := consul.Options{Address: client.HTTP}
	w := newWorld(t)
	fill(w, server, 1)
	web := object{"Name": "web", "ID": "web1", "Port": 80, "Connect": object{"SidecarService": object{}}}
	put(t, client, "/v1/agent/service/register", web)
	w.watch("w1", options)
	w.eventually(func() bool { return len(w.instancePorts()["machine/web1"]) > 0 }, func() string { return "web1 is not seen" })
	w.wantEqual(options)
	n := len(w.events())
	client.Kill()
	if err := client.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() bool { return len(w.tombstones(n)) >= 2 }, func() string { return "web1 stays in the log" })
	w.wantEqual(options)
	put(t, client, "/v1/agent/service/register", web)
	w.eventually(func() bool { return len(w.instancePorts()["machine/web1"]) > 1 }, func() string { return "web1 does not come back" })
	w.wantEqual(options)
	w.wantTombstones(n, "instance/machine/web1", "instance/machine/web1-sidecar-proxy")
}

// A second watcher with a way of its own takes over from one that is cut off.
func TestSecondTakesOverFromOneThatIsCutOff(t *testing.T) {
	t.Parallel()
	agent := agenttest.Start(t, devagent.Config{})
	options := consul.Options{Address: agent.HTTP}
	way := newWay(t, strings.TrimPrefix(agent.HTTP, "http://"))
	w := newWorld(t)
	fill(w, agent, 1)
	first := w.watch("w1", consul.Options{Address: "http://" + way.address()})
	w.wantEqual(options)
	second := w.watch("w2", options)
	w.eventually(func() bool { return second.Ready() == nil }, func() string { return "the second is not ready" })
	way.refuse()
	fill(w, agent, 2)
	w.wantEqual(options)
	if !second.Status().Active || first.Status().Active {
		t.Errorf("active: first %v, second %v; want the second alone", first.Status().Active, second.Status().Active)
	}
	w.wantTombstones(0)
	w.wantRising()
}
