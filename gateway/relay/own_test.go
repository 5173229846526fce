package relay_test

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// A catalog that has a gateway's own address as the way to another datacenter would
// have each connection passed on to the gateway itself without end.
func TestAGatewayDoesNotConnectToItself(t *testing.T) {
	var current atomic.Pointer[table.Table]
	current.Store(tableTo("10.0.0.1:443"))
	r := start(t, relay.Config{Config: engine.Config{Table: current.Load}})
	current.Store(tableTo(r.address.String()))
	c := connect(t, r)
	write(t, c, string(enginetest.HelloFor(api)))
	_, _ = io.Copy(io.Discard, c) // Until it is closed.
	record := <-r.records
	if record.Reason != table.ReasonConnectFailed || !strings.Contains(record.Detail, "of this gateway itself") {
		t.Errorf("%s: %s", record.Reason, record.Detail)
	}
	if n := r.Stats().Accepted; n != 1 {
		t.Errorf("%d connections came of one", n)
	}
}
