package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
)

// An Envoy in the gateway's role, configured as an xds node does it, is sent the same
// seeded clients as our engines. What is listed is where our engines do otherwise, on
// purpose. It is the Envoy of today: 1.36 passes a reset on as an end in order.
func TestTheSameClientsThroughAPeer(t *testing.T) {
	binary := envoytest.Need(t)
	enginetest.Run(t, enginetest.Rig{
		Start:   func(t *testing.T, setup enginetest.Setup) netip.AddrPort { return envoyEngine(t, binary, setup) },
		Differs: envoyDiffers(),
		// It resets a client that ends before it is joined.
		Sometimes: map[string]string{"a client that half-closes at once": "reset"},
		Settled:   true,
	})
}

// envoyDiffers says what an Envoy does instead.
func envoyDiffers() map[string]string {
	const reset = "reset"
	differs := map[string]string{
		// It looks up the cluster of any name, so also that of the wildcard.
		"a suffix alone": "a server answers",
	}
	for _, name := range []string{
		// It refuses without an alert, and with what it was sent unread, which resets.
		"no name", "an unknown name", "a foreign trust domain", "a hello that says it is endless", "a record too long",
		"empty records", "a record of another type", "a malformed hello", "HTTP", "half a hello and silence",
		"no endpoint", "no endpoint that answers", "an end before the hello is whole",
		// Its hellos have 16 KiB at most.
		"16 KiB of extensions", "16 KiB of extensions, one byte a record", "seed 1", "seed 37", "seed 38",
	} {
		differs[name] = reset
	}
	return differs
}

type fields = map[string]any

func typed(name string, config fields) fields {
	types := map[string]string{
		"envoy.filters.listener.tls_inspector": "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
		"envoy.filters.network.tcp_proxy":      "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
		"envoy.filters.network.sni_cluster":    "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
	}
	if config == nil {
		config = fields{}
	}
	config["@type"] = "type.googleapis.com/" + types[name]
	return fields{"name": name, "typed_config": config}
}

func socketAddress(a netip.AddrPort) fields {
	return fields{"socket_address": fields{"address": a.Addr().String(), "port_value": a.Port()}}
}

// engineBootstrap is what an xds node has an Envoy do for a setup (xdsnode/resource,
// gateway.go).
func engineBootstrap(setup enginetest.Setup) fields {
	anyPort := netip.MustParseAddrPort("127.0.0.1:0")
	passes := func(cluster string) fields {
		return typed("envoy.filters.network.tcp_proxy", fields{"stat_prefix": "passed", "cluster": cluster, "max_connect_attempts": 3})
	}
	var chains, clusters []fields
	cluster := func(name string, addresses []netip.AddrPort) {
		var endpoints []fields
		for _, a := range addresses {
			endpoints = append(endpoints, fields{"endpoint": fields{"address": socketAddress(a)}})
		}
		clusters = append(clusters, fields{
			"name": name, "type": "STATIC", "connect_timeout": "5s", "outlier_detection": fields{},
			"common_lb_config": fields{"healthy_panic_threshold": fields{"value": 0}},
			"load_assignment":  fields{"cluster_name": name, "endpoints": []fields{{"lb_endpoints": endpoints}}},
		})
	}
	for suffix, addresses := range setup.Wildcards {
		name := strings.TrimPrefix(suffix, ".")
		cluster(name, addresses)
		chains = append(chains, fields{"filter_chain_match": fields{"server_names": []string{"*" + suffix}}, "filters": []fields{passes(name)}})
	}
	for name, addresses := range setup.Names {
		cluster(name, addresses)
	}
	chains = append(chains, fields{"filters": []fields{typed("envoy.filters.network.sni_cluster", nil), passes("")}})
	return fields{
		"admin": fields{"address": socketAddress(anyPort)},
		"static_resources": fields{
			"clusters": clusters,
			"listeners": []fields{{
				"name": "mesh", "address": socketAddress(anyPort), "filter_chains": chains,
				"listener_filters":         []fields{typed("envoy.filters.listener.tls_inspector", nil)},
				"listener_filters_timeout": fmt.Sprintf("%.3fs", setup.HelloTimeout.Seconds()),
			}},
		},
	}
}

// envoyEngine runs an Envoy until the test ends, and returns where it listens.
func envoyEngine(t *testing.T, binary string, setup enginetest.Setup) netip.AddrPort {
	t.Helper()
	dir := t.TempDir()
	bootstrap, err := json.Marshal(engineBootstrap(setup))
	if err != nil {
		t.Fatal(err)
	}
	file, admin := filepath.Join(dir, "bootstrap.json"), filepath.Join(dir, "admin")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(filepath.Join(t.ArtifactDir(), "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "--config-path", file, "--admin-address-path", admin, "--use-dynamic-base-id", "--concurrency", "2")
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		_ = output.Close()
	})
	var address netip.AddrPort
	await(t, "the Envoy does not listen", func(ctx context.Context) error {
		at, err := os.ReadFile(admin)
		if err != nil {
			return err
		}
		address, err = listensAt(ctx, string(at))
		return err
	})
	return address
}

// listensAt asks an Envoy where its one listener is.
func listensAt(ctx context.Context, admin string) (netip.AddrPort, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/listeners", http.NoBody)
	if err != nil {
		return netip.AddrPort{}, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at, _ := strings.CutPrefix(strings.TrimSpace(string(b)), "mesh::")
	return netip.ParseAddrPort(at)
}
