package resolver_test

import (
	"fmt"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// TestGlobalFlipOfMergedProxies: one change of proxy-defaults makes the agents
// rewrite each proxy, and their messages arrive in batches. Proxies that show
// equal modes share a route set, so the whole flip writes the old set once with
// its problem, the new one once, and takes the old one away; each proxy is
// rewritten once, in the batch in which it moves.
func TestGlobalFlipOfMergedProxies(t *testing.T) {
	const proxies = 300
	for _, batches := range []int{1, 2, 7, 300} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			w := world{"dc1": "gateway 10.1.0.20:8443\n" + pdLocal, "dc2": "gateway 10.2.0.20:8443\nsidecar api 10.2.0.9:21000\nsidecar beta 10.2.0.10:21000"}
			for i := range proxies {
				w["dc1"] += "\n" + mergedNumber(i, "local")
			}
			m := w.settled(t)
			// The entry comes first: the routes stay, and say that agents have to merge it.
			flips := []flip{{routeSets: 1}}
			if got := counted(t, m, pdRemote); got != flips[0] {
				t.Errorf("the entry alone writes %+v", got)
			}
			for b := range batches {
				var batch []string
				for i := b * proxies / batches; i < (b+1)*proxies/batches; i++ {
					batch = append(batch, mergedNumber(i, "remote"))
				}
				want := flip{proxies: len(batch)}
				if b == 0 {
					want.routeSets = 1
				}
				if b == batches-1 {
					want.gone = 1
				}
				got := counted(t, m, strings.Join(batch, "\n"))
				got.endpoints = 0
				if got != want {
					t.Errorf("batch %d of %d writes %+v, want %+v", b, batches, got, want)
				}
			}
			if diff := diffOutputs(collect(t, rebuilt(t, w, batchesDone(proxies)).All()), collect(t, m.All())); diff != "" {
				t.Errorf("what the flip came to is not what a rebuild gives:\n%s", diff)
			}
		})
	}
}

// flip counts the messages of one update.
type flip struct{ routeSets, gone, proxies, endpoints int }

func counted(t *testing.T, m *resolver.Machine, statements string) flip {
	t.Helper()
	var f flip
	for _, key := range change(t, m, "dc1", statements) {
		switch kind, _, _ := strings.Cut(key, "/"); kind {
		case string(isthmusv1.KindRouteSet):
			f.routeSets++
		case "no " + string(isthmusv1.KindRouteSet):
			f.gone++
		case string(isthmusv1.KindProxy):
			f.proxies++
		case string(isthmusv1.KindEndpoint), "no " + string(isthmusv1.KindEndpoint):
			f.endpoints++
		default:
			t.Errorf("%s was written too", key)
		}
	}
	return f
}

// mergedNumber is one of many proxies of web, showing a mode at its instance and
// its upstreams as an agent merges it.
func mergedNumber(i int, mode string) string {
	return fmt.Sprintf(`sidecar web 10.1.1.%d:%d id=web-%d { merged_central_config: true proxy { mesh_gateway { mode: "%s" } `+
		`upstreams { destination_name: "api" datacenter: "dc2" local_bind_port: 1 mesh_gateway { mode: "%s" } } `+
		`upstreams { destination_name: "beta" datacenter: "dc2" local_bind_port: 2 mesh_gateway { mode: "%s" } } } }`,
		i%250, 21000+i, i, mode, mode, mode)
}

// batchesDone is what all proxies show after the flip, with the entry.
func batchesDone(proxies int) string {
	statements := []string{"gateway 10.1.0.20:8443", pdRemote}
	for i := range proxies {
		statements = append(statements, mergedNumber(i, "remote"))
	}
	return strings.Join(statements, "\n")
}

// rebuilt is a machine that knows only what dc1 says in the end.
func rebuilt(t *testing.T, w world, dc1 string) *resolver.Machine {
	t.Helper()
	return world{"dc1": dc1, "dc2": w["dc2"]}.machine(t)
}
