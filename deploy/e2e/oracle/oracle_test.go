package oracle_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConsulAgrees holds our routes against Consul's own. The parts run one after
// another in one federation: each leaves only names that no other uses, and the
// gateways' part is last, as gateways are of the whole datacenter.
func TestConsulAgrees(t *testing.T) {
	w := newWorld(t, devagent.Config{})
	w.registerGateways(t)
	t.Run("precedence", w.precedence)
	t.Run("chains", w.chains)
	t.Run("upstreams", w.upstreams)
	t.Run("opaque proxy-defaults", w.opaque)
	t.Run("opaque proxy-defaults that Consul cannot read", w.opaqueText)
	t.Run("central config off in all agents", w.allCentralOff)
	t.Run("central config off in another agent", w.otherCentralOff)
	t.Run("gateways", w.gatewaysOfAll)
	t.Run("intended differences", w.checkDifferences)
}
