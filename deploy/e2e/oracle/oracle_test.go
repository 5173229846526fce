package oracle_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConsulAgrees holds our routes against Consul's own. The parts run one after
// another in one federation: each leaves only names that no other uses, and the
// gateways' part is last, as gateways are of the whole datacenter.
func TestConsulAgrees(t *testing.T) {
	w := newWorld(t)
	w.registerGateways(t)
	if !t.Run("precedence", w.precedence) {
		return
	}
	t.Run("intended differences", w.checkDifferences)
}
