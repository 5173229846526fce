package sds_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// node is an xds node that has nothing to serve and tells who connects.
type node struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	address netip.AddrPort
	peers   chan string
}

// serveNode serves as an identity.
func serveNode(t *testing.T, as *identity.Identity) *node {
	t.Helper()
	live := identity.NewLive(nil)
	live.Take(as, nil)
	config := live.ServerConfig(identity.Parameters{})
	config.NextProtos = []string{"h2"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{address: listener.Addr().(*net.TCPAddr).AddrPort(), peers: make(chan string, 100)}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	discovery.RegisterAggregatedDiscoveryServiceServer(server, n)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

// DeltaAggregatedResources tells who asks, and says that there is nothing of any type.
func (n *node) DeltaAggregatedResources(with discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	from, _ := peer.FromContext(with.Context())
	uri, err := identity.PeerURI(from.AuthInfo.(credentials.TLSInfo).State)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		request, err := with.Recv()
		if err != nil {
			return err
		}
		if first {
			n.peers <- uri.String()
		}
		if request.GetResponseNonce() == "" {
			_ = with.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: request.GetTypeUrl(), Nonce: request.GetTypeUrl()}) // The next Recv fails too.
		}
	}
}

// envoy is a real one, of a bootstrap of ours.
type envoy struct {
	t     *testing.T
	admin string
	log   *log
}

// startEnvoy starts one that asks the nodes and the socket, and listens with the leaf
// itself.
func startEnvoy(t *testing.T, socket, trustDomain string, nodes ...netip.AddrPort) *envoy {
	t.Helper()
	binary, dir := envoytest.Need(t), t.TempDir()
	config := bootstrap.Config{
		ID: "web-sidecar-proxy", Service: "web", Datacenter: "dc1", TrustDomain: trustDomain, SDS: socket,
		Admin: netip.MustParseAddrPort("127.0.0.1:0"), Listeners: bootstrap.JSON{From: "the test", Text: tlsListener},
	}
	for _, at := range nodes {
		config.Nodes = append(config.Nodes, bootstrap.HostPort{Host: at.Addr().String(), Port: at.Port()})
	}
	text, err := bootstrap.Render(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	e := &envoy{t: t, log: &log{}}
	adminFile := filepath.Join(dir, "admin")
	command := exec.Command(binary, "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "--admin-address-path", adminFile)
	command.Stdout, command.Stderr = e.log, e.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Envoy logged:\n%s", e.log)
		}
	})
	e.await("the admin server", func() bool {
		at, err := os.ReadFile(adminFile)
		e.admin = string(at)
		return err == nil && len(at) > 0
	})
	return e
}

// tlsListener shows the leaf, and wants one that a root vouches for.
var tlsListener = fmt.Sprintf(`{"name": "own", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
 "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "own", "cluster": "isthmus_sds"}}],
  "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
   "require_client_certificate": true, "common_tls_context": {"tls_certificate_sds_secret_configs": [%s], "validation_context_sds_secret_config": %s}}}}]}`,
	bySocket(leaf), bySocket(roots))

func bySocket(name string) string {
	return fmt.Sprintf(`{"name": %q, "sds_config": {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "api_config_source": {"api_type": "GRPC", "transport_api_version": "V3",
	 "grpc_services": [{"envoy_grpc": {"cluster_name": %q}}]}}}`, name, isthmusv1.ClusterSDS)
}

// await waits until look returns true.
func (e *envoy) await(what string, look func() bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !look() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			e.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// get asks the admin server; nothing when it does not answer.
func (e *envoy) get(path string) string {
	e.t.Helper()
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, "http://"+e.admin+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(text)
}

// serials are those of the leaves that Envoy uses now, of each TLS context one.
func (e *envoy) serials() []string {
	var answer struct {
		Certificates []struct {
			Chain []struct {
				Serial string `json:"serial_number"`
			} `json:"cert_chain"`
		}
	}
	_ = json.Unmarshal([]byte(e.get("/certs")), &answer) // Not all of it is there yet.
	var out []string
	for _, c := range answer.Certificates {
		if len(c.Chain) > 0 {
			out = append(out, strings.TrimLeft(c.Chain[0].Serial, "0"))
		}
	}
	return out
}

// uses waits until Envoy uses an identity's leaf in so many contexts, and no other.
func (e *envoy) uses(i *identity.Identity, contexts int) {
	e.t.Helper()
	want := i.Leaf().SerialNumber.Text(16)
	e.await("the leaf "+want, func() bool {
		got := e.serials()
		for _, serial := range got {
			if serial != want {
				return false
			}
		}
		return len(got) == contexts
	})
}
