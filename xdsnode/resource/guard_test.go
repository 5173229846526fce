package resource_test

import (
	"encoding/json"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// The chains of a public listener of somebody's own.
const (
	ownTCP = `{"filters":[{"name":"tcp","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"own","cluster":"local_app"}}]}`
	// A TLS of its own would let in whom it likes.
	ownHTTP = `{"transport_socket":{"name":"raw"},"filters":[{"name":"http","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",` +
		`"stat_prefix":"own","route_config":{"name":"own"},"http_filters":[{"name":"router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}`
	// A kind of manager that is not known here judges nobody.
	ownUnknown = `{"filters":[{"name":"http","typed_config":{"@type":"type.googleapis.com/example.Manager"}}]}`
)

// Every chain of a public listener that somebody wrote asks for a certificate and judges
// whose it is: that of last resort, and those beside it. One that cannot is not served.
func TestNoChainIsUnguarded(t *testing.T) {
	for _, test := range []struct {
		name, protocol, chains string
		problem                string
	}{
		{"one chain", "tcp", `"filter_chains":[` + ownTCP + `]`, ""},
		{"the last resort alone", "tcp", `"default_filter_chain":` + ownTCP, ""},
		{"both", "tcp", `"filter_chains":[` + ownTCP + `,` + ownTCP + `],"default_filter_chain":` + ownTCP, ""},
		{"both of http", "http", `"filter_chains":[` + ownHTTP + `],"default_filter_chain":` + ownHTTP, ""},
		{"none", "tcp", `"filter_chains":[]`, "no filter chain"},
		{"no requests to judge", "http", `"filter_chains":[` + ownHTTP + `],"default_filter_chain":` + ownTCP, "nothing would judge"},
		{"none that can be judged", "grpc", `"filter_chains":[` + ownUnknown + `]`, "nothing would judge"},
		{"one that no Envoy takes", "tcp", `"per_connection_buffer_limit_bytes":1,"address":{"socket_address":{"address":"","port_value":1}},"filter_chains":[` + ownTCP + `]`, "invalid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := json.Marshal(map[string]string{"envoy_public_listener_json": `{"name":"own",` + test.chains + `}`})
			if err != nil {
				t.Fatal(err)
			}
			made, problems := resource.Public(&isthmusv1.ProxyRoutes{
				Id: "web", Kind: isthmusv1.InstanceKindProxy, Address: "10.0.0.1", Port: 21000, Local: &isthmusv1.Local{Protocol: test.protocol}, ConfigJson: config,
			}, nil)
			var stated []string
			for _, p := range problems {
				stated = append(stated, p.GetText())
			}
			if said := strings.Join(stated, "\n"); (test.problem == "") != (said == "") || !strings.Contains(said, test.problem) {
				t.Errorf("it states %q, want %q", said, test.problem)
			}
			for _, r := range made {
				if r.Type != resource.Listener {
					continue
				}
				if own := r.Name == "own"; own != (test.problem == "") {
					t.Errorf("%s is served", r.Name)
				}
				wantGuarded(t, r, test.protocol)
			}
		})
	}
}

func wantGuarded(t *testing.T, r *resource.Resource, protocol string) {
	t.Helper()
	l := &listenerv3.Listener{}
	if err := r.Body.UnmarshalTo(l); err != nil {
		t.Fatal(err)
	}
	chains := l.GetFilterChains()
	if l.GetDefaultFilterChain() != nil {
		chains = append(chains, l.GetDefaultFilterChain())
	}
	for i, chain := range chains {
		if !strings.HasSuffix(chain.GetTransportSocket().GetTypedConfig().GetTypeUrl(), "DownstreamTlsContext") {
			t.Errorf("chain %d of %s asks nobody for a certificate", i, r.Name)
		}
		first := chain.GetFilters()[0]
		judge := first.GetTypedConfig().GetTypeUrl()
		if protocol != "tcp" {
			m := &hcm.HttpConnectionManager{}
			if err := first.GetTypedConfig().UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			judge = m.GetHttpFilters()[0].GetTypedConfig().GetTypeUrl()
			if strings.HasSuffix(judge, "grpc_stats.v3.FilterConfig") {
				judge = m.GetHttpFilters()[2].GetTypedConfig().GetTypeUrl() // Which only count and translate.
			}
		}
		if !strings.HasSuffix(judge, ".rbac.v3.RBAC") {
			t.Errorf("chain %d of %s judges nobody: %s comes first", i, r.Name, judge)
		}
	}
}
