package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestNothingIsServedBeforeThereIsATable(t *testing.T) {
	r := newRoutes(t)
	g := run(t, gateway.Config{Log: r.log})
	if g.State() != gateway.StateStarting || g.Waiting() == "" {
		t.Errorf("the state is %s, waiting for %q", g.State(), g.Waiting())
	}
	// A connection waits in the queue until there is a table.
	c, err := net.Dial("tcp", g.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(enginetest.HelloFor(api)); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	sequence := r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	if got, err := io.ReadAll(c); string(got) != "one" {
		t.Errorf("answered %q (%v)", got, err)
	}
	awaitApplied(t, r.log, sequence)
	if g.State() != gateway.StateServing || g.Waiting() != "" || g.SavedAge(time.Now()) != 0 {
		t.Errorf("the state is %s, waiting for %q", g.State(), g.Waiting())
	}
}

func TestStopBeforeThereIsATable(t *testing.T) {
	g := run(t, gateway.Config{Log: newRoutes(t).log})
	g.stop()
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", g.Addresses()[0]); err == nil {
		t.Error("its address is still bound")
	}
}

func TestAChangeOfEndpointsLeavesConnectionsAlone(t *testing.T) {
	r := newRoutes(t)
	one, two := named(t, "one"), named(t, "two")
	r.publish(t, apiEndpoints(at(one)...), apiName())
	g := run(t, gateway.Config{Log: r.log})
	open := halfAsk(t, g)
	route := g.Feed().Table().Lookup([]byte(api))
	awaitApplied(t, r.log, r.publish(t, apiEndpoints(at(two)...)))
	mustAsk(t, g, "two")
	if g.Feed().Table().Lookup([]byte(api)) != route {
		t.Error("a change of endpoints made a new route")
	}
	if got := open(); got != "one" {
		t.Errorf("the open connection was answered %q", got)
	}
	awaitApplied(t, r.log, r.publish(t, value{key: apiName().key}))
	if got, err := ask(g.Addresses()[0]); got != string([]byte{21, 3, 3, 0, 2, 2, 112}) {
		t.Errorf("a name that is gone was answered %q (%v)", got, err)
	}
}

func TestRecordsAndStatusAndMetrics(t *testing.T) {
	r := newRoutes(t)
	one := named(t, "one")
	r.publish(t, apiEndpoints(at(one)...), apiName())
	registry := prometheus.NewRegistry()
	var lines bytes.Buffer
	var accessLog io.Writer = &lines
	g := run(t, gateway.Config{
		Log: r.log, Registerer: registry, AccessLog: accessLog, StatusInterval: time.Millisecond,
		Name: "gw1", AdminAddress: "127.0.0.1:9",
	})
	mustAsk(t, g, "one")
	record := <-g.records
	if record.Endpoint != one.String() || record.Route != api || record.Reason != table.ReasonDone ||
		record.Basis.Text() != "CATALOG_dc1@100" || record.Routes.GetSequence() != 2 {
		t.Errorf("the record says %+v", record)
	}
	status := awaitStatus(t, r.log, func(g *isthmusv1.GatewayStatus) bool {
		return g.GetConnectionsTotal() == 1 && g.GetConnectionsOpen() == 0
	})
	if status.GetState() != "serving" || status.GetAdminAddress() != "127.0.0.1:9" || len(status.GetListenAddresses()) != 1 ||
		status.GetRoutesCounters()[0].GetRoute() != api || status.GetRoutesCounters()[0].GetConnections() != 1 ||
		status.GetEndpoints()[0].GetAddress() != one.String() || status.GetBytesOut() != 3 || status.GetBasis().Text() != "CATALOG_dc1@100" {
		t.Errorf("the status is %v", status)
	}
	routes := g.Routes()
	if len(routes) != 1 || routes[0].Connections != 1 || routes[0].BytesOut != 3 || g.Endpoints()[0].Connections != 1 {
		t.Errorf("routes %+v, endpoints %+v", routes, g.Endpoints())
	}
	metrics := gather(t, registry)
	for name, want := range map[string]float64{
		"isthmus_gateway_connections_accepted_total":                   1,
		"isthmus_gateway_connections_open":                             0,
		`isthmus_gateway_connections_ended_total reason=done`:          1,
		`isthmus_gateway_connections_ended_total reason=no_endpoint`:   0,
		"isthmus_gateway_bytes_total direction=out":                    3,
		"isthmus_gateway_table_routes kind=name":                       1,
		"isthmus_gateway_table_sequence":                               2,
		"isthmus_gateway_state state=serving":                          1,
		"isthmus_gateway_state state=draining":                         0,
		"isthmus_gateway_access_log_dropped_total":                     0,
		"isthmus_gateway_route_connections_total route=" + api:         1,
		"isthmus_gateway_route_connections_open route=" + api:          0,
		"isthmus_gateway_route_failures_total route=" + api:            0,
		"isthmus_gateway_route_bytes_total direction=out route=" + api: 3,
	} {
		if got, ok := metrics[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %v); want %v", name, got, ok, want)
		}
	}
	g.stop()
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
	if left := gather(t, registry); len(left) != 0 {
		t.Errorf("metrics are left after the end: %v", left)
	}
	var line map[string]any
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
		t.Fatalf("%v in %q", err, lines.String())
	}
	if line["sni"] != api || line["endpoint"] != one.String() || line["reason"] != "done" || line["routes"] != "ROUTES_dc1@2" ||
		line["basis"] != "CATALOG_dc1@100" || line["bytes_out"] != 3.0 || line["attempts"] != 1.0 {
		t.Errorf("the line says %v", line)
	}
}

// gather returns every sample of the gateway by its name and labels.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func TestSavedTableWhileTheBusIsAway(t *testing.T) {
	r, dir := newRoutes(t), t.TempDir()
	sequence := r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName(),
		value{isthmusv1.MeshKey(), &isthmusv1.MeshRoutes{Datacenter: "dc1", TrustDomain: "td"}})
	first := run(t, gateway.Config{Log: r.log, StateDir: dir})
	mustAsk(t, first, "one")
	first.stop()
	if err := <-first.ended; err != nil {
		t.Fatal(err)
	}

	client := r.log.Connect("second")
	client.Cut(true)
	second := run(t, gateway.Config{Log: client, StateDir: dir})
	mustAsk(t, second, "one")
	record := <-second.records
	if second.State() != gateway.StateSaved || second.SavedAge(time.Now()) <= 0 || second.Waiting() != "" || !second.Status().GetFromSavedTable() {
		t.Errorf("the state is %s, of age %v, waiting for %q", second.State(), second.SavedAge(time.Now()), second.Waiting())
	}
	if record.Routes.GetSequence() != sequence || record.Basis.Text() != "CATALOG_dc1@100" || second.Feed().Mesh().GetTrustDomain() != "td" {
		t.Errorf("the saved table stands for %v at %s", record.Routes, record.Basis.Text())
	}
	// The bus comes back, and with it what has changed meanwhile.
	next := r.publish(t, apiEndpoints(at(named(t, "two"))...))
	client.Cut(false)
	awaitApplied(t, r.log, next)
	mustAsk(t, second, "two")
	if second.State() != gateway.StateServing || second.SavedAge(time.Now()) != 0 {
		t.Errorf("the state is %s", second.State())
	}
}

func TestSavedTableThatCannotBeUsed(t *testing.T) {
	r, dir := newRoutes(t), t.TempDir()
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	first := run(t, gateway.Config{Log: r.log, StateDir: dir})
	mustAsk(t, first, "one")
	first.stop()
	<-first.ended
	path := filepath.Join(dir, "gateway-table.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, contents := range map[string][]byte{
		"cut off": whole[:len(whole)/2], "a byte changed": bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":2`), 1), "empty": nil,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, contents, 0o600); err != nil {
				t.Fatal(err)
			}
			client := r.log.Connect(name)
			client.Cut(true)
			g := run(t, gateway.Config{Log: client, StateDir: dir})
			if g.State() != gateway.StateStarting {
				t.Errorf("the state is %s", g.State())
			}
			// It is as if there were none: the stream is waited for.
			client.Cut(false)
			mustAsk(t, g, "one")
		})
	}
}

func TestDrainLetsConnectionsEnd(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	g := run(t, gateway.Config{Log: r.log})
	c, err := net.Dial("tcp", g.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(enginetest.HelloFor(api)); err != nil {
		t.Fatal(err)
	}
	// Another one behind it in the queue has been answered, so it is accepted.
	mustAsk(t, g, "one")
	g.stop()
	awaitStatus(t, r.log, func(s *isthmusv1.GatewayStatus) bool { return s.GetState() == "draining" })
	if g.Waiting() != "draining" {
		t.Errorf("ready while it drains: %q", g.Waiting())
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "one" {
		t.Errorf("answered %q (%v)", got, err)
	}
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
}

func TestDrainHasADeadline(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	g := run(t, gateway.Config{Log: r.log, DrainTimeout: time.Millisecond})
	c, err := net.Dial("tcp", g.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(enginetest.HelloFor(api)); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, g, "one")
	<-g.records
	g.stop()
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
	if record := <-g.records; record.Reason != table.ReasonDrained {
		t.Errorf("the record says %+v", record)
	}
}

// hosts resolves names for a test.
type hosts map[string]netip.Addr

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, ok := h[host]; ok {
		return []netip.Addr{a}, nil
	}
	return nil, errors.New("no such host")
}

func TestHostNamesAreResolved(t *testing.T) {
	r := newRoutes(t)
	server := named(t, "one")
	endpoint := at(server)[0]
	endpoint.Address = "api.example"
	absent := at(server)[0]
	absent.Address = "absent.example"
	r.publish(t, apiEndpoints(endpoint, absent), apiName())
	resolved := make(chan struct{}, 3)
	g := run(t, gateway.Config{
		Log: r.log, Hosts: telling{hosts{"api.example": server.Addr()}, resolved}, HostInterval: time.Millisecond,
	})
	// A third look-up is one of the second round, so the first is taken in.
	for range 3 {
		<-resolved
	}
	mustAsk(t, g, "one")
	if record := <-g.records; !strings.HasPrefix(record.Endpoint, "api.example:") {
		t.Errorf("the record says %+v", record)
	}
}

// telling tells of each look-up.
type telling struct {
	gateway.HostResolver
	told chan<- struct{}
}

func (r telling) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	defer func() {
		select {
		case r.told <- struct{}{}:
		default:
		}
	}()
	return r.HostResolver.LookupNetIP(ctx, network, host)
}

func TestConfigTellsAllThatIsWrong(t *testing.T) {
	_, err := gateway.New(gateway.Config{})
	for _, want := range []string{"Datacenter is missing", "Log is missing", "Listen is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to say %q", err, want)
		}
	}
	_, err = gateway.New(gateway.Config{Datacenter: "dc1", Log: newRoutes(t).log, Listen: []string{"nonsense", "127.0.0.1:1", "127.0.0.1:1"}})
	for _, want := range []string{`"nonsense"`, `"127.0.0.1:1" stands twice`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to say %s", err, want)
		}
	}
}

func TestAnAddressThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	g := run(t, gateway.Config{Log: newRoutes(t).log, Listen: []string{"127.0.0.1:0", taken.Addr().String()}})
	if err := <-g.ended; err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("ended with %v; want the address named", err)
	}
}

func TestASlowAccessLogDropsAndCounts(t *testing.T) {
	r := newRoutes(t)
	r.publish(t, apiEndpoints(at(named(t, "one"))...), apiName())
	registry := prometheus.NewRegistry()
	first, release := make(chan struct{}), make(chan struct{})
	told := 0
	g := run(t, gateway.Config{Log: r.log, Registerer: registry, AccessLogSize: 2, OnRecord: func(*table.Record) {
		if told++; told == 1 {
			close(first)
			<-release
		}
	}})
	mustAsk(t, g, "one")
	<-first
	for range 5 {
		mustAsk(t, g, "one")
	}
	// Every connection has ended, and so has told its record or dropped it.
	g.Engine().Drain(t.Context())
	close(release)
	g.stop()
	<-g.ended
	// One was in the hands of the hook, two in the ring.
	if told != 3 {
		t.Errorf("%d of 6 records were told", told)
	}
}
