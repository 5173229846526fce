package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// instance is one of a service that speaks HTTP or gRPC, with a sidecar of its own.
type instance struct {
	dc, service, id string
	host            int
	version         string
	upstreams       []any
}

func (w *envoyWorld) address(i instance) string { return fmt.Sprintf("%s%d", w.network(i.dc), i.host) }

// enroll registers an instance and its sidecar, whose check says how it is.
func (w *envoyWorld) enroll(i instance) {
	w.t.Helper()
	w.enrollAs(i, "passing")
}

func (w *envoyWorld) enrollAs(i instance, status string) {
	w.t.Helper()
	address := w.address(i)
	proxy := map[string]any{"LocalServiceAddress": address}
	if i.upstreams != nil {
		proxy["Upstreams"] = i.upstreams
	}
	w.call(i.dc, http.MethodPut, "/v1/agent/service/register", map[string]any{
		"Name": i.service, "ID": i.id, "Address": address, "Port": 8080, "Meta": map[string]any{"version": i.version},
		"Connect": map[string]any{"SidecarService": map[string]any{
			"Proxy": proxy, "Checks": []any{map[string]any{"CheckID": i.id + "-up", "Name": "up", "TTL": "1h", "Status": status}},
		}},
	}, nil)
}

// requestWorld is an envoyWorld whose services speak HTTP and gRPC, in both datacenters.
type requestWorld struct {
	*envoyWorld
	all []*process
}

// What web's local listeners lead to.
const (
	frontPort   = 10010
	greeterPort = 10011
)

func newRequestWorld(t *testing.T) *requestWorld {
	t.Helper()
	w := &requestWorld{envoyWorld: newEnvoyWorld(t)}
	for service, protocol := range map[string]string{"front": "http", "admin": "http", "greeter": "grpc"} {
		w.configure("dc1", map[string]any{"Kind": "service-defaults", "Name": service, "Protocol": protocol})
	}
	w.configure("dc1", map[string]any{
		"Kind": "service-resolver", "Name": "front",
		"Subsets":  map[string]any{"v1": map[string]any{"Filter": "Service.Meta.version == v1"}, "v2": map[string]any{"Filter": "Service.Meta.version == v2"}},
		"Failover": map[string]any{"*": map[string]any{"Datacenters": []string{"dc2"}}},
	})
	w.configure("dc1", map[string]any{"Kind": "service-splitter", "Name": "front", "Splits": []any{
		map[string]any{"Weight": 50, "ServiceSubset": "v1"}, map[string]any{"Weight": 50, "ServiceSubset": "v2"},
	}})
	w.configure("dc1", map[string]any{"Kind": "service-router", "Name": "front", "Routes": []any{map[string]any{
		"Match": map[string]any{"HTTP": map[string]any{"PathPrefix": "/admin"}}, "Destination": map[string]any{"Service": "admin"},
	}}})
	w.configure("dc1", map[string]any{"Kind": "service-intentions", "Name": "admin", "Sources": []any{map[string]any{
		"Name": "web", "Permissions": []any{
			map[string]any{"Action": "allow", "HTTP": map[string]any{"PathPrefix": "/admin", "Methods": []string{"GET"}}},
			map[string]any{"Action": "deny", "HTTP": map[string]any{"PathPrefix": "/"}},
		},
	}}})
	for _, i := range []instance{
		{"dc1", "front", "front-v1", 40, "v1", nil}, {"dc1", "front", "front-v2", 41, "v2", nil}, {"dc1", "admin", "admin", 42, "", nil},
		{"dc2", "front", "far-v1", 43, "v1", nil}, {"dc2", "front", "far-v2", 44, "v2", nil},
	} {
		w.serve(i.id, w.address(i)+":8080")
		w.enroll(i)
		w.all = append(w.all, w.sidecarEnvoy(i.dc, i.id))
	}
	greeter := instance{"dc2", "greeter", "greeter", 45, "", nil}
	w.serveGRPC(w.address(greeter) + ":8080")
	w.enroll(greeter)
	w.all = append(w.all, w.sidecarEnvoy("dc2", "greeter"))
	w.enroll(instance{"dc1", "web", "caller", 46, "", []any{
		map[string]any{"DestinationName": "front", "LocalBindAddress": w.dc1 + "46", "LocalBindPort": frontPort},
		map[string]any{"DestinationName": "greeter", "Datacenter": "dc2", "LocalBindAddress": w.dc1 + "46", "LocalBindPort": greeterPort},
	}})
	w.all = append(w.all, w.sidecarEnvoy("dc1", "caller"))
	w.gateways("dc1", "go")
	w.all = append(w.all, w.gateways("dc2", "envoy")...)
	w.awaitServing(t, w.all...)
	return w
}

// serveGRPC runs a gRPC server that says how it is.
func (w *envoyWorld) serveGRPC(address string) {
	w.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	w.t.Cleanup(func() {
		server.Stop()
		<-ended
	})
}

func (w *requestWorld) url(path string) string {
	return fmt.Sprintf("http://%s46:%d%s", w.dc1, frontPort, path)
}

// answers waits until exactly these have answered among many requests.
func (w *requestWorld) answers(t *testing.T, path string, want ...string) {
	t.Helper()
	await(t, fmt.Sprintf("%s is not answered by %q", path, want), func(ctx context.Context) error {
		seen := map[string]bool{}
		for range 20 {
			status, body, err := w.status(ctx, http.MethodGet, w.url(path))
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("%d %q, %w", status, body, err)
			}
			seen[body] = true
		}
		for _, name := range want {
			if !seen[name] {
				return fmt.Errorf("answered by %v: %w", seen, errUnexpected)
			}
		}
		if len(seen) != len(want) {
			return fmt.Errorf("answered by %v: %w", seen, errUnexpected)
		}
		return nil
	})
}

// check says how the sidecar of an instance is.
func (w *envoyWorld) check(dc, id, status string) {
	w.t.Helper()
	w.call(dc, http.MethodPut, "/v1/agent/check/update/"+id+"-up", map[string]any{"Status": status}, nil)
}

// TestEnvoyRequests: HTTP and gRPC upstreams with a router, a splitter, a failover to the
// other datacenter through gateways, and intentions that look at requests.
func TestEnvoyRequests(t *testing.T) {
	w := newRequestWorld(t)
	w.answers(t, "/", "front-v1", "front-v2")
	w.answers(t, "/admin/users", "admin")
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		if status, body, err := w.status(t.Context(), method, w.url("/admin/users")); status != http.StatusForbidden {
			t.Errorf("%s is answered %d %q, %v; want it denied", method, status, body, err)
		}
	}

	// Each subset fails over by itself, and back.
	w.check("dc1", "front-v1", "critical")
	w.answers(t, "/", "far-v1", "front-v2")
	w.check("dc1", "front-v2", "critical")
	w.answers(t, "/", "far-v1", "far-v2")
	w.answers(t, "/admin", "admin")
	w.check("dc1", "front-v1", "passing")
	w.check("dc1", "front-v2", "passing")
	w.answers(t, "/", "front-v1", "front-v2")

	conn, err := grpc.NewClient(fmt.Sprintf("passthrough:///%s46:%d", w.dc1, greeterPort), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await(t, "the gRPC service does not answer", func(ctx context.Context) error {
		answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
		if err == nil && answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			err = fmt.Errorf("%v: %w", answer.GetStatus(), errUnexpected)
		}
		return err
	})
	wantNoRejection(t, w.all...)
}
