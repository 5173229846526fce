package oracle_test

import "testing"

// gateways are where the gateways of [world.registerGateways] are found.
func (w *world) gateways() gateways {
	return gateways{near: []string{"10.1.0.1", "10.1.0.2"}, far: []string{"198.51.100.1", "198.51.100.2"}}
}

// theGateways are two of each datacenter: one of an agent, and one of the catalog
// with another name and another weight.
func (w *world) theGateways() []instance {
	out := []instance{
		gateway(w.dc1, "", "gateway", "gateway", "10.1.0.1", "203.0.113.1"),
		gateway(w.dc1, "dc1-edge", "edge", "edge", "10.1.0.2", "203.0.113.2"),
		gateway(w.dc2, "", "gateway", "gateway", "10.2.0.1", "198.51.100.1"),
		gateway(w.dc2, "dc2-edge", "edge", "edge", "10.2.0.2", "198.51.100.2"),
	}
	for _, g := range out {
		if g.node != "" {
			g.fields["Weights"] = object{"Passing": 5, "Warning": 2}
		}
	}
	return out
}

func (w *world) registerGateways(t *testing.T) {
	for _, g := range w.theGateways() {
		g.register(t)
	}
}
