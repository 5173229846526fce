package oracle_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// hostname is the WAN address of a gateway that has no IP address there.
const hostname = "gateway.dc2.example.com"

// gateways are where the gateways of [world.registerGateways] are found.
func (w *world) gateways() gateways {
	return gateways{near: []string{"10.1.0.1", "10.1.0.2"}, far: []string{"198.51.100.1", "198.51.100.2", hostname}}
}

// theGateways are two of each datacenter: one of an agent, and one of the catalog
// with another name and another weight.
func (w *world) theGateways() []instance {
	weights := object{"Weights": object{"Passing": 5, "Warning": 2}}
	return []instance{
		gateway(w.dc1, "", "gateway", "gateway", "10.1.0.1", "203.0.113.1"),
		gateway(w.dc1, "dc1-edge", "edge", "edge", "10.1.0.2", "203.0.113.2").with(weights),
		gateway(w.dc2, "", "gateway", "gateway", "10.2.0.1", "198.51.100.1"),
		gateway(w.dc2, "dc2-edge", "edge", "edge", "10.2.0.2", "198.51.100.2").with(weights),
	}
}

func (w *world) registerGateways(t *testing.T) {
	for _, g := range w.theGateways() {
		g.register(t)
	}
}

// unhealthy makes the endpoint at an address unhealthy.
func unhealthy(address string) func(view) view {
	return func(their view) view {
		for _, place := range their {
			for _, t := range place {
				for i, e := range t.Endpoints {
					if strings.HasPrefix(e, address+":") {
						t.Endpoints[i] = strings.Replace(e, " healthy", " unhealthy", 1)
					}
				}
			}
		}
		return their
	}
}

// noPath takes the endpoints from the target that is tried at a place, which
// Consul leads by a path or, with an empty one, nowhere, and states the problem
// that we state there.
func noPath(at int, was, problem string) func(view) view {
	return func(their view) view {
		if t := &their[0][at]; t.Path == was {
			t.Endpoints, t.Path, t.Problems = nil, "", []string{problem}
		}
		return their
	}
}

// far is the name of the other datacenter's services at the gateways of dc1.
func (w *world) far() string { return "*.dc2.internal." + w.trustDomain }

// withoutGateway is Consul's names with the one that we state although it leads
// nowhere.
func (w *world) withoutGateway(their names) names {
	their[w.far()] = lead{Timeout: usual, Problems: []string{"NO_GATEWAY"}}
	return their
}

// failing is Consul's names with the problem that we state when no gateway of dc2
// passes its checks; the endpoints are unhealthy on both sides.
func (w *world) failing(their names) names {
	l := their[w.far()]
	l.Problems = []string{"GATEWAYS_FAILING"}
	their[w.far()] = l
	return their
}

// withAddress is Consul's names with the gateway of dc2 that has an address, which
// Consul leaves out for the one that has a name.
func (w *world) withAddress(their names) names {
	l := their[w.far()]
	l.Endpoints = append([]string{"198.51.100.1:443 healthy 1"}, l.Endpoints...)
	their[w.far()] = l
	return their
}

// compareNames waits until a gateway of Consul's and one of ours lead on the same
// names to the same endpoints.
func (w *world) compareNames(t *testing.T, g instance, differs map[string]func(names) names) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	consul := open(t, g.agent, g.node, g.id)
	for {
		snapshot, theirsChanged := consul.Changed()
		their, our := theirNames(snapshot), names{}
		ourChanged := w.routes.look(func() { our = w.routes.ourNames() })
		wrong := fmt.Sprintf("Consul has not sent all: %v lack endpoints", snapshot.Unassigned())
		if snapshot.Complete() && len(snapshot.Clusters) > 0 {
			same := cmp.Equal(their, our, cmpopts.EquateEmpty())
			for _, apply := range differs {
				their = apply(their)
			}
			wrong = cmp.Diff(their, our, cmpopts.EquateEmpty())
			if same && len(differs) > 0 {
				wrong = "both sides say the same, though they are to differ"
			}
		}
		if wrong == "" {
			for name := range differs {
				w.met.Store(name, true)
			}
			return
		}
		select {
		case <-theirsChanged:
		case <-ourChanged:
		case <-ctx.Done():
			t.Fatalf("the names of %s and ours (-Consul +ours):\n%s", g.id, wrong)
		}
	}
}
