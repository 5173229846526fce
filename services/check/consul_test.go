package check_test

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// A healthy federation passes everything, and so it does as seen by one agent, but
// for what that cannot see.
func TestHealthy(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{}, "dc1", "dc2")
	for _, a := range dcs {
		registerMesh(t, a)
	}
	findings := run(t, dcs...)
	wantBad(t, findings, check.Fail)
	wantBad(t, findings, check.Warn)
	for _, e := range check.Codes()[:slices.IndexFunc(check.Codes(), func(e check.Explanation) bool { return e.Code == check.Bus })] {
		for _, dc := range []string{"dc1", "dc2"} {
			switch {
			case strings.HasPrefix(string(e.Code), "ACL_") && e.Code != check.ACLToken:
				continue // Access control is off.
			case e.Code == check.ModePending || e.Code == check.StickyDefaults:
				continue // No audit was handed in.
			}
			if !slices.ContainsFunc(findings, func(f check.Finding) bool {
				return f.Code == e.Code && f.Datacenter == dc && f.Status == check.Pass && f.From == "here" && f.Fix == ""
			}) {
				t.Errorf("no pass of %s in %s", e.Code, dc)
			}
		}
	}

	t.Run("one agent", func(t *testing.T) {
		o := check.Options{Targets: []check.Target{target(t, dcs[0], "", "")}}
		findings := runWith(t, o)
		wantBad(t, findings, check.Fail)
		wantBad(t, findings, check.Warn, "AGENT dc2", "PRIMARY_DATACENTER dc2", "GRPC dc2", "CENTRAL_CONFIG dc2",
			"INTENTION_DEFAULT dc2", "CLOCK dc2", "ACL_TOKEN dc2", "SERVICE_REACH dc2")
		for _, code := range []check.Code{check.Version, check.Connect, check.TrustDomain, check.GatewayHealth, check.GatewayReach} {
			one(t, findings, check.Pass, code, "dc2")
		}
	})
	t.Run("a clash of case, modes", func(t *testing.T) {
		put(t, dcs[1], "/v1/catalog/register", map[string]any{"Node": "other", "Address": "192.0.2.1", "Service": map[string]any{"Service": "Api", "Port": 80}})
		put(t, dcs[0], "/v1/config", map[string]any{"Kind": "service-defaults", "Name": "odd", "MeshGateway": map[string]any{"Mode": "Local"}})
		put(t, dcs[0], "/v1/catalog/register", map[string]any{"Node": "other", "Address": "192.0.2.1", "Service": map[string]any{
			"Service": "web-proxy", "Kind": "connect-proxy", "Port": 80, "SocketPath": "/tmp/none", "Proxy": map[string]any{
				"DestinationServiceName": "web", "Config": map[string]any{"mesh_gateway": map[string]any{"mode": "local"}},
				"Upstreams": []any{map[string]any{"DestinationName": "API", "LocalBindPort": 1}, map[string]any{"DestinationName": "api", "Datacenter": "DC2", "LocalBindPort": 2}},
			},
		}})
		findings := run(t, dcs[0], dcs[1])
		fails := bad(findings, check.Fail)
		for _, want := range []string{"SERVICE_CASE dc2", "MODE_INVALID dc1"} {
			if !slices.Contains(fails, want) {
				t.Errorf("no %s among %q", want, fails)
			}
		}
		one(t, findings, check.Warn, check.ModeHidden, "dc1")
		one(t, findings, check.Warn, check.ServiceCase, "dc1")
		one(t, findings, check.Warn, check.DatacenterCase, "dc1")
	})
}

// The list that must be shown: each is reported by its code, and nothing fails that
// does not follow from it.
func TestConnectDisabled(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{NoConnect: true}, "dc1", "dc2")
	findings := run(t, dcs...)
	wantBad(t, findings, check.Fail, "CONNECT dc1", "CONNECT dc2")
	if f := one(t, findings, check.Fail, check.Connect, "dc1"); !strings.Contains(f.Found, "disabled") || !strings.Contains(f.Fix, "connect { enabled = true }") {
		t.Errorf("%+v", f)
	}
}

func TestCentralConfigOff(t *testing.T) {
	t.Parallel()
	a := agenttest.StartFederation(t, devagent.Config{NoCentralConfig: true}, "dc1", "dc2")
	wantBad(t, run(t, a...), check.Fail, "CENTRAL_CONFIG dc1", "CENTRAL_CONFIG dc2")
}

// Two datacenters that are whole, each for itself.
func TestNotJoined(t *testing.T) {
	t.Parallel()
	one := agenttest.Start(t, devagent.Config{Datacenter: "dc1", PrimaryDatacenter: "dc1"})
	// Without its primary a secondary has no roots: devagent would wait for them.
	two := agenttest.Start(t, devagent.Config{Datacenter: "dc2", PrimaryDatacenter: "dc1", NoConnect: true, Extra: `connect { enabled = true }`})
	wantBad(t, run(t, one, two), check.Fail, "WAN_JOINED dc1", "WAN_JOINED dc2", "CONNECT dc2")
}

func TestPrimariesDiffer(t *testing.T) {
	t.Parallel()
	first := agenttest.Start(t, devagent.Config{Datacenter: "dc1"})
	second := agenttest.Start(t, devagent.Config{Datacenter: "dc2", RetryJoinWAN: []string{first.WAN}})
	awaitJoined(t, first, second)
	// Different trust domains are the proof of it.
	wantBad(t, run(t, first, second), check.Fail, "PRIMARY_DATACENTER dc2", "TRUST_DOMAIN dc2")
}

// Two datacenters of one name, that know nothing of each other or are joined.
func TestOneName(t *testing.T) {
	t.Parallel()
	t.Run("apart", func(t *testing.T) {
		t.Parallel()
		first := agenttest.Start(t, devagent.Config{Node: "n1"})
		second := agenttest.Start(t, devagent.Config{Node: "n2"})
		o := check.Options{Targets: []check.Target{target(t, first, "dc1", ""), target(t, second, "dc2", "")}}
		findings := runWith(t, o)
		wantBad(t, findings, check.Fail, "DATACENTER_NAME dc1", "WAN_JOINED dc1")
	})
	t.Run("joined", func(t *testing.T) {
		t.Parallel()
		first := agenttest.Start(t, devagent.Config{Node: "n1"})
		agenttest.Start(t, devagent.Config{Node: "n2", RetryJoinWAN: []string{first.WAN}})
		awaitWAN(t, first, "n2.dc1")
		findings := runWith(t, check.Options{Targets: []check.Target{target(t, first, "", "")}})
		if f := one(t, findings, check.Fail, check.DatacenterName, "dc1"); !strings.Contains(f.Found, "n2.dc1") {
			t.Errorf("%+v", f)
		}
	})
}

// Each way in which a gateway is not reached has its words.
func TestGatewayUnreachable(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{}, "dc1", "dc2")
	for _, a := range dcs {
		registerMesh(t, a)
	}
	other := serveMesh(t, dcs[1], "other")
	closing := serve(t, func(net.Conn) {})
	gone := int(freeport.Hold(t).Port())
	for name, test := range map[string]struct {
		port  int
		found string
	}{
		"nobody listens":      {gone, "no connection"},
		"it closes":           {closing, "no answer to the name"},
		"it is another proxy": {other, "not of that service"},
	} {
		t.Run(name, func(t *testing.T) {
			registerGateway(t, dcs[1], test.port)
			findings := run(t, dcs...)
			wantBad(t, findings, check.Fail, "GATEWAY_REACH dc2")
			if f := one(t, findings, check.Fail, check.GatewayReach, "dc2"); !strings.Contains(f.Found, test.found) || f.From != "here" {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("what is behind it does not answer", func(t *testing.T) {
		put(t, dcs[1], "/v1/agent/service/register", map[string]any{
			"Name": "aaa-sidecar-proxy", "Kind": "connect-proxy", "Address": "127.0.0.1", "Port": closing,
			"Proxy": map[string]any{"DestinationServiceName": "aaa"},
		})
		awaitCatalog(t, dcs[1], "aaa-sidecar-proxy")
		registerGateway(t, dcs[1], serveMesh(t, dcs[1], "api", "aaa."))
		findings := run(t, dcs...)
		wantBad(t, findings, check.Fail, "SERVICE_REACH dc2")
		if f := one(t, findings, check.Pass, check.GatewayReach, "dc2"); !strings.Contains(f.Found, "asking for api.") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("no gateway is well", func(t *testing.T) {
		put(t, dcs[1], "/v1/agent/service/maintenance/mesh-gateway?enable=true", nil)
		awaitCritical(t, dcs[1])
		if got := bad(run(t, dcs...), check.Fail); !slices.Contains(got, "GATEWAY_HEALTH dc2") {
			t.Errorf("%q", got)
		}
	})
}

// An agent that is not there fails, and is waited for by nobody else.
func TestNoAgent(t *testing.T) {
	t.Parallel()
	a := &devagent.Agent{Datacenter: "dc1", HTTP: "http://127.0.0.1:1"}
	findings := run(t, a)
	wantBad(t, findings, check.Fail, "AGENT dc1")
	if len(findings) != 1 {
		t.Errorf("%v", findings)
	}
}

// A closed gRPC port is a warning, which names what may be Consul's own Envoys.
func TestGRPC(t *testing.T) {
	t.Parallel()
	a := agenttest.Start(t, devagent.Config{Extra: `ports { grpc = -1 grpc_tls = -1 }`})
	one(t, run(t, a), check.Warn, check.GRPC, "dc1")
	put(t, a, "/v1/agent/service/register", map[string]any{
		"Name": "mesh-gateway", "Kind": "mesh-gateway", "Address": "127.0.0.1", "Port": 1,
		"Check": map[string]any{"Name": "mesh-gateway listening", "TTL": "1h", "Status": "passing"},
	})
	awaitCatalog(t, a, "mesh-gateway")
	if f := one(t, run(t, a), check.Warn, check.GRPC, "dc1"); !strings.Contains(f.Found, "dc1-server/mesh-gateway") {
		t.Errorf("%+v", f)
	}
}

// Findings are what programs read.
func TestJSON(t *testing.T) {
	findings := check.Judge(&check.Facts{From: "m", Agents: []check.AgentFacts{{Given: "dc1", URL: "http://x", Err: http.ErrServerClosed}}})
	text, err := json.Marshal(findings)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"code":"AGENT","datacenter":"dc1","status":"fail","subject":"agent at http://x","from":"m","found":"does not answer: http: Server closed","fix":"start a Consul agent, or name one that runs with ` + "`--consul`" + `"}]`
	if string(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
}
