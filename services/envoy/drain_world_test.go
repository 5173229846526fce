//go:build unix

package envoy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/envoy"
)

// fields are an object of Envoy's configuration.
type fields = map[string]any

// serving is a real Envoy with listeners as an xds node would give them: requests and
// bytes for inbound, bytes for outbound, and one of its own where numbers are read.
type serving struct {
	*child
	t                                *testing.T
	requests, bytes, upstream, stats string
}

// serve starts one, and returns when all of it listens.
func serve(t *testing.T, c envoy.Command, admin fields) *serving {
	t.Helper()
	ip := fmt.Sprintf("127.%d.%d.7", 100+os.Getpid()%100, os.Getpid()/100%250)
	s := &serving{t: t, requests: ip + ":8001", bytes: ip + ":8002", upstream: ip + ":8003", stats: ip + ":8004"}
	dir := t.TempDir()
	resources := []fields{
		listen("public_listener", s.requests, "INBOUND", answers()),
		listen("bytes", s.bytes, "", passesTo("echo")),
		listen("upstream", s.upstream, "OUTBOUND", answers()),
	}
	for _, r := range resources {
		r["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"
	}
	file := filepath.Join(dir, "listeners.json")
	if err := os.WriteFile(file, text(t, fields{"version_info": "1", "resources": resources}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Binary, c.Args = envoytest.Need(t), []string{"--concurrency", "1", "--log-level", "warning"}
	if c.DrainWithin == 0 {
		c.DrainWithin = time.Minute
	}
	bootstrap := fields{
		"node":              fields{"id": "web", "cluster": "web"},
		"dynamic_resources": fields{"lds_config": fields{"path_config_source": fields{"path": file}}},
		"static_resources": fields{
			"listeners": []fields{listen("stats", s.stats, "", answers())},
			"clusters": []fields{{"name": "echo", "type": "STATIC", "connect_timeout": "5s", "load_assignment": fields{
				"cluster_name": "echo", "endpoints": []fields{{"lb_endpoints": []fields{{"endpoint": fields{"address": address(echo(t))}}}}},
			}}},
		},
	}
	if admin != nil {
		bootstrap["admin"] = fields{"address": admin}
	}
	c.Bootstrap = text(t, bootstrap)
	s.child = run(t, c)
	for _, at := range []string{s.requests, s.bytes, s.upstream, s.stats} {
		s.await(at+" to listen", func() bool {
			connection, err := net.Dial("tcp", at)
			if err == nil {
				connection.Close()
			}
			return err == nil
		})
	}
	return s
}

// tcpAdmin is an admin server on a port of its own choice.
func tcpAdmin() fields { return address("127.0.0.1:0") }

func text(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func address(at string) fields {
	host, port, _ := net.SplitHostPort(at)
	return fields{"socket_address": fields{"address": host, "port_value": json.Number(port)}}
}

func listen(name, at, direction string, filter fields) fields {
	out := fields{"name": name, "address": address(at), "filter_chains": []fields{{"filters": []fields{filter}}}}
	if direction != "" {
		out["traffic_direction"] = direction
	}
	return out
}

func answers() fields {
	const extensions = "type.googleapis.com/envoy.extensions.filters."
	return fields{"name": "requests", "typed_config": fields{
		"@type": extensions + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "requests",
		"http_filters": []fields{{"name": "router", "typed_config": fields{"@type": extensions + "http.router.v3.Router"}}},
		"route_config": fields{"virtual_hosts": []fields{{"name": "all", "domains": []string{"*"}, "routes": []fields{
			{"match": fields{"prefix": "/"}, "direct_response": fields{"status": 200}},
		}}}},
	}}
}

func passesTo(cluster string) fields {
	return fields{"name": "bytes", "typed_config": fields{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
		"stat_prefix": "bytes", "cluster": cluster,
	}}
}

// echo is the address of a server that gives back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				_, _ = io.Copy(connection, connection)
			}()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// client keeps one connection, and reports what became of a request over it: whether the
// response asks to leave, and how many connections were made by then.
func (s *serving) client() func(at string) (leave bool, connections int) {
	made := 0 // One request at a time: nobody else counts.
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext, MaxIdleConns: 1}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, at string) (net.Conn, error) {
		made++
		return dial(ctx, network, at)
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Transport: transport}
	return func(at string) (bool, int) {
		s.t.Helper()
		answer, err := c.Get("http://" + at)
		if err != nil {
			s.t.Fatalf("a request is lost: %v; Envoy wrote\n%s", err, s.out)
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			s.t.Fatalf("a request ends with %s, %v", answer.Status, err)
		}
		return answer.Close, made
	}
}

// connect opens a connection for bytes, over which some have gone.
func (s *serving) connect(at string) net.Conn {
	s.t.Helper()
	connection, err := net.Dial("tcp", at)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { connection.Close() })
	return connection
}

// wantEcho wants bytes to come back over a connection.
func (s *serving) wantEcho(connection net.Conn) {
	s.t.Helper()
	got := make([]byte, 4)
	if _, err := connection.Write([]byte("ping")); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(connection, got); err != nil || string(got) != "ping" {
		s.t.Fatalf("%q, %v came back; Envoy wrote\n%s", got, err, s.out)
	}
}

// wantOrder wants texts to have been written one after another.
func (s *serving) wantOrder(texts ...string) {
	s.t.Helper()
	rest := s.out.String()
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			s.t.Fatalf("%q does not come, or not in its turn; it wrote\n%s", text, s.out)
		}
		rest = after
	}
}
