package oracle_test

import (
	"os"
	"strings"
	"testing"
)

// The intended differences that routes show, by their names in
// deploy/docs/differences.md.
const (
	invalidMode       = "An invalid mode"
	unknownDatacenter = "An unknown datacenter"
	gatewayHealth     = "A gateway's own health"
	noGateway         = "No gateway"
	centralConfig     = "Central config switched off in an agent"
	opaqueAsText      = "A mode as bare text in the opaque config of proxy-defaults"
	hostnameGateway   = "A hostname as a gateway's WAN address"
)

// differences are all of them: each must be met by a case.
var differences = []string{invalidMode, unknownDatacenter, gatewayHealth, noGateway, centralConfig, opaqueAsText, hostnameGateway}

// checkDifferences: what differs on purpose is documented, and still differs.
func (w *world) checkDifferences(t *testing.T) {
	text, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range differences {
		if !strings.Contains(string(text), "| **"+name+"** |") {
			t.Errorf("deploy/docs/differences.md has no row %q", name)
		}
		if _, ok := w.met.Load(name); !ok {
			t.Errorf("no case has met the intended difference %q", name)
		}
	}
}
