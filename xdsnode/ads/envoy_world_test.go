package ads_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// words are what a node says of one proxy, to be waited for.
type words struct {
	mu      sync.Mutex
	current *isthmusv1.ProxyStatus // nil: it is not connected
	streams int
	changed chan struct{}
}

func newWords() *words { return &words{changed: make(chan struct{})} }

func (w *words) say(s *isthmusv1.ProxyStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil && s != nil {
		w.streams++
	}
	w.current = s
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *words) Proxy(s *isthmusv1.ProxyStatus)             { w.say(s) }
func (w *words) Forget(string)                              { w.say(nil) }
func (w *words) Node(*isthmusv1.Position, *isthmusv1.Basis) {}

// now is the last word; nil: it is not connected.
func (w *words) now() *isthmusv1.ProxyStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}

// until waits for words that are as wanted; the count is of streams that began.
func (w *words) until(t *testing.T, what string, wanted func(s *isthmusv1.ProxyStatus, streams int) bool) *isthmusv1.ProxyStatus {
	t.Helper()
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		current, streams, changed := w.current, w.streams, w.changed
		w.mu.Unlock()
		if wanted(current, streams) {
			return current
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: not so; the last word is %v, after %d streams", what, current, streams)
		}
	}
}

// envoyProcess is a real Envoy that is the proxy n1/mg, with a certificate in files.
type envoyProcess struct {
	t   *testing.T
	dir string
	log bytes.Buffer
}

// startEnvoy starts one. Its certificate is what show last wrote.
func startEnvoy(t *testing.T, node net.Addr, leaf *identity.Identity) *envoyProcess {
	t.Helper()
	return startEnvoyAs(t, "mg", "DELTA_GRPC", node, leaf)
}

// startEnvoyAs starts one that is another proxy of n1, by a protocol, and serves it the
// secrets that its resources name.
func startEnvoyAs(t *testing.T, id, protocol string, node net.Addr, leaf *identity.Identity) *envoyProcess {
	t.Helper()
	binary := envoytest.Need(t)
	e := &envoyProcess{t: t, dir: t.TempDir()}
	e.show(leaf)
	host, port, err := net.SplitHostPort(node.String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name string) object {
		return object{"name": name, "sds_config": object{"path_config_source": object{"path": filepath.Join(e.dir, name)}, "resource_api_version": "V3"}}
	}
	xds := object{"name": "xds", "type": "STATIC", "connect_timeout": "2s",
		"load_assignment": object{"cluster_name": "xds", "endpoints": list{object{"lb_endpoints": list{object{"endpoint": object{
			"address": object{"socket_address": object{"address": host, "port_value": n}},
		}}}}}},
		"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": object{"http2_protocol_options": object{}},
		}},
		"transport_socket": object{"name": "tls", "typed_config": object{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"common_tls_context": object{
				"tls_certificate_sds_secret_configs":   list{secret("leaf")},
				"validation_context_sds_secret_config": secret("roots"),
			},
		}},
	}
	serveSecrets(t, filepath.Join(e.dir, "s"), leaf)
	secrets := object{"name": isthmusv1.ClusterSDS, "type": "STATIC", "typed_extension_protocol_options": xds["typed_extension_protocol_options"],
		"load_assignment": object{"cluster_name": isthmusv1.ClusterSDS, "endpoints": list{object{"lb_endpoints": list{object{"endpoint": object{
			"address": object{"pipe": object{"path": filepath.Join(e.dir, "s")}},
		}}}}}},
	}
	ads := object{"ads": object{}, "resource_api_version": "V3"}
	e.write("bootstrap.json", object{
		"node":             object{"id": id, "cluster": id, "metadata": object{"node_name": "n1"}},
		"static_resources": object{"clusters": list{xds, secrets}},
		// As in every bootstrap: expressions of intentions are larger than older Envoys take.
		"layered_runtime": object{"layers": list{object{"name": "base", "static_layer": object{"re2.max_program_size.error_level": 1 << 20}}}},
		"dynamic_resources": object{"lds_config": ads, "cds_config": ads, "ads_config": object{
			"api_type": protocol, "transport_api_version": "V3", "set_node_on_first_message_only": true,
			"grpc_services": list{object{"envoy_grpc": object{"cluster_name": "xds"}}},
		}},
	})
	command := exec.Command(binary, "-c", filepath.Join(e.dir, "bootstrap.json"), "--disable-hot-restart", "--concurrency", "1", "-l", "info") //nolint:noctx // It is told to end below.
	command.Stderr = &e.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGKILL)
		_ = command.Wait()
		if t.Failed() {
			t.Log(e.log.String())
		}
	})
	return e
}

// serveSecrets serves a leaf on a socket, until the test ends.
func serveSecrets(t *testing.T, path string, leaf *identity.Identity) {
	t.Helper()
	listener, err := sds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sds.NewServer(holding(leaf), nil).Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

type (
	object = map[string]any
	list   = []any
)

// show replaces the certificate; the Envoy takes up what is moved to where it looks.
func (e *envoyProcess) show(leaf *identity.Identity) {
	e.t.Helper()
	key, err := leaf.KeyPEM()
	if err != nil {
		e.t.Fatal(err)
	}
	node := isthmusv1.SPIFFEID(&isthmusv1.ServiceRef{Name: isthmusv1.ServiceXDS}, "dc1", testDomain)
	inline := func(text []byte) object { return object{"inline_string": string(text)} }
	for name, what := range map[string]object{
		"leaf": {"tls_certificate": object{"certificate_chain": inline(leaf.ChainPEM()), "private_key": inline(key)}},
		"roots": {"validation_context": object{
			"trusted_ca":                    inline(leaf.RootsPEM()),
			"match_typed_subject_alt_names": list{object{"san_type": "URI", "matcher": object{"exact": node}}},
		}},
	} {
		what["@type"], what["name"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", name
		e.write(name, object{"resources": list{what}})
	}
}

// write writes a file in one move.
func (e *envoyProcess) write(name string, content any) {
	e.t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		e.t.Fatal(err)
	}
	path := filepath.Join(e.dir, name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		e.t.Fatal(err)
	}
}

// secureNode is a node with a certificate of the dev CA, to be reached on loopback.
func secureNode(t *testing.T, ca *identity.DevCA, w *words, age time.Duration) (*node, net.Addr, *identity.Live) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It blocks on nothing.
	if err != nil {
		t.Fatal(err)
	}
	live := holding(issue(t, ca, isthmusv1.ServiceXDS, "dc1"))
	return serve(t, ads.Config{Identity: known(live), Reports: w, StreamAge: age}, listener), listener.Addr(), live
}

// bindAt is the mesh gateway n1/mg with a listener at an address, as the service edge.
func bindAt(address string) values {
	out := proxyOf("n1", "mg", isthmusv1.InstanceKindMeshGateway, "edge")
	for _, v := range out {
		v.(*isthmusv1.ProxyRoutes).Gateway.Binds = []*isthmusv1.GatewayBind{{Name: "default", Address: address}}
	}
	return out
}

func said(s *isthmusv1.ProxyStatus) string {
	return strings.TrimSpace(fmt.Sprint(s.GetLastNack().GetResource(), ": ", s.GetLastNack().GetDetail()))
}
