package bootstrap_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// testdata/gateway.json is what an Envoy starts with; the end-to-end test starts real
// ones with it. ISTHMUS_UPDATE=1 writes it anew.
func TestJSON(t *testing.T) {
	got, err := bootstrap.JSON(bootstrap.Config{
		ID: "mesh-gateway", Node: "node-1", Nodes: []bootstrap.HostPort{{"127.0.0.1", 9510}, {"xds.example", 9510}},
		Admin: netip.MustParseAddrPort("127.0.0.1:19000"),
	})
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/gateway.json"
	if os.Getenv("ISTHMUS_UPDATE") != "" {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(got) != string(want) {
		t.Errorf("%v; got\n%s", err, got)
	}
	if _, err := bootstrap.JSON(bootstrap.Config{ID: "mesh-gateway"}); !errors.Is(err, bootstrap.ErrNoNodes) {
		t.Errorf("without nodes: %v", err)
	}
}
