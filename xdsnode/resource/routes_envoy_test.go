package resource_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// chained is a chain with a router, splitters and resolvers.
const chained = `
chain {
  start: "router:web"
  nodes { name: "router:web" router {
    routes { match { path_exact: "/exact" } destination { prefix_rewrite: "/new" } next: "resolver:admin" }
    routes { match { path_prefix: "/Cut" case_insensitive: true } destination { prefix_rewrite: "/" } next: "resolver:admin" }
    routes { match { path_prefix: "/move" } destination { prefix_rewrite: "/moved" } next: "resolver:admin" }
    routes { match { path_prefix: "/stay" } destination { service: "admin" } next: "resolver:admin" }
    routes { match { path_regex: "/r/[0-9]+" } next: "resolver:admin" }
    routes { match { path_regex: "/bad/(" } next: "resolver:admin" }
    routes { match { path_prefix: "/h" headers { name: "x-a" exact: "A" ignore_case: true } headers { name: "x-b" prefix: "b" invert: true } headers { name: "x-c" present: true invert: true } } next: "resolver:admin" }
    routes { match { path_prefix: "/q" query_params { name: "a" exact: "1" } query_params { name: "b" regex: "[0-9]+" } query_params { name: "c" present: true } } next: "resolver:admin" }
    routes { match { path_prefix: "/m" methods: "PUT" methods: "POST" } next: "resolver:admin" }
    routes { match { path_prefix: "/modified" } destination {
      request_headers { add { name: "x-added" value: "1" } set { name: "x-set" value: "2" } remove: "x-gone" }
      response_headers { set { name: "x-answer" value: "3" } remove: "x-secret" } } next: "resolver:admin" }
    routes { match { path_prefix: "/again" } destination { num_retries: 3 retry_on: "5xx" } next: "resolver:admin" }
    routes { match { path_prefix: "/once" } next: "resolver:admin" }
    routes { match { path_prefix: "/none" } next: "resolver:nobody" }
    routes { match { path_prefix: "/half" } next: "splitter:half" }
    routes { match { path_prefix: "/all" } next: "splitter:all" }
    routes { match { path_prefix: "/same" } next: "resolver:hashed" }
    routes { next: "resolver:web" }
  } }
  nodes { name: "splitter:half" splitter {
    splits { weight: 5000 next: "resolver:admin" request_headers { set { name: "x-set" value: "half" } } }
    splits { weight: 5000 next: "resolver:web" }
  } }
  nodes { name: "splitter:all" splitter { splits { weight: 0 next: "resolver:web" } splits { weight: 10000 next: "resolver:admin" } } }
  nodes { name: "resolver:web" resolver { target: "web" } }
  nodes { name: "resolver:admin" resolver { target: "admin" } }
  nodes { name: "resolver:hashed" resolver { target: "hashed"
    load_balancer_json: '{"hash_policies":[{"field":"header","field_value":"x-user"}],"policy":"maglev"}' } }
}`

// backend answers with its name, and the path and headers that it was asked with. Every
// second request to a path that ends in fail is an error.
func backend(t *testing.T, name string) string {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-secret", "s")
		if strings.HasSuffix(r.URL.Path, "fail") && asked.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "%s %s %s%s%s", name, r.URL.Path, r.Header.Get("x-added"), r.Header.Get("x-set"), r.Header.Get("x-gone"))
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func clusterOf(t *testing.T, name, lb string, addresses ...string) any {
	t.Helper()
	var endpoints []any
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		endpoints = append(endpoints, map[string]any{"endpoint": map[string]any{"address": socketAddress(host, number)}})
	}
	balanced := &clusterv3.Cluster{}
	if err := resource.ApplyLoadBalancer(balanced, []byte(lb)); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"name": name, "type": "STATIC", "connect_timeout": "5s", "lb_policy": balanced.GetLbPolicy().String(),
		"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{"lb_endpoints": endpoints}}},
	}
}

// routing is an Envoy that routes by the chain, and asks it.
type routing struct {
	t       *testing.T
	address string
}

func newRouting(t *testing.T) *routing {
	t.Helper()
	route := &isthmusv1.Route{}
	if err := prototext.Unmarshal([]byte(chained), route); err != nil {
		t.Fatal(err)
	}
	made, err := resource.RoutesOf("web", route, targetOf(route)).Message()
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	clusters := []any{
		clusterOf(t, "web", "", backend(t, "web")), clusterOf(t, "admin", "", backend(t, "admin")),
		clusterOf(t, "hashed", `{"policy":"maglev"}`, backend(t, "one"), backend(t, "two"), backend(t, "three")),
	}
	listener := listening("web", "route", text)
	return &routing{t: t, address: run(t, []any{listener}, clusters).addresses()["route/web"]}
}

// ask is the status and what is said, with headers written as NAME=VALUE.
func (r *routing) ask(method, path string, headers ...string) (string, http.Header) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.address+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, "=")
		request.Header.Add(name, value)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, said)), answer.Header
}

// TestRealEnvoyAndRoutes: a real Envoy leads real requests where the chain says.
func TestRealEnvoyAndRoutes(t *testing.T) {
	r := newRouting(t)
	for _, test := range []struct {
		method, path string
		headers      []string
		want         string
	}{
		{"GET", "/", nil, "200 web /"},
		{"GET", "/exact", nil, "200 admin /new"},
		{"GET", "/exactly", nil, "200 web /exactly"},
		{"GET", "/Exact", nil, "200 web /Exact"},
		{"GET", "/cut/a/b", nil, "200 admin /a/b"},
		{"GET", "/CUT", nil, "200 admin /"},
		{"GET", "/cut?/x", nil, "200 admin /"},
		{"GET", "/move/a", nil, "200 admin /moved/a"},
		{"GET", "/stay/a", nil, "200 admin /stay/a"},
		{"GET", "/r/12", nil, "200 admin /r/12"},
		{"GET", "/r/12/a", nil, "200 web /r/12/a"},
		{"GET", "/bad/(", nil, "200 web /bad/("},
		{"GET", "/h", []string{"x-a=a", "x-b=a"}, "200 admin /h"},
		{"GET", "/h", []string{"x-a=aa", "x-b=a"}, "200 web /h"},
		{"GET", "/h", []string{"x-a=a", "x-b=ba"}, "200 web /h"},
		{"GET", "/h", []string{"x-a=a", "x-b=a", "x-c=1"}, "200 web /h"},
		{"GET", "/q?a=1&b=22&c", nil, "200 admin /q"},
		{"GET", "/q?a=1&b=2a&c", nil, "200 web /q"},
		{"GET", "/q?a=2&b=22&c", nil, "200 web /q"},
		{"GET", "/q?a=1&b=22", nil, "200 web /q"},
		{"PUT", "/m", nil, "200 admin /m"},
		{"GET", "/m", nil, "200 web /m"},
		{"GET", "/modified", []string{"x-added=0", "x-set=0", "x-gone=0"}, "200 admin /modified 02"},
		{"GET", "/again/fail", nil, "200 admin /again/fail"},
		{"GET", "/once/fail", nil, "500 admin /once/fail"},
		{"GET", "/none", nil, "503"},
		{"GET", "/all", nil, "200 admin /all"},
	} {
		got, _ := r.ask(test.method, test.path, test.headers...)
		if got != test.want {
			t.Errorf("%s %s with %q: %q, want %q", test.method, test.path, test.headers, got, test.want)
		}
	}
	if _, headers := r.ask(http.MethodGet, "/modified"); headers.Get("x-answer") != "3" || headers.Get("x-secret") != "" {
		t.Errorf("the answer's headers are %v", headers)
	}

	halves := map[string]int{}
	for range 200 {
		got, _ := r.ask(http.MethodGet, "/half")
		halves[got]++
	}
	if web, admin := halves["200 web /half"], halves["200 admin /half half"]; web+admin != 200 || web < 50 || admin < 50 {
		t.Errorf("the halves are %v", halves)
	}

	// Of one user all requests go to one endpoint, and users to several.
	endpoints := map[string]bool{}
	for user := range 30 {
		header := fmt.Sprintf("x-user=%d", user)
		first, _ := r.ask(http.MethodGet, "/same", header)
		endpoints[first] = true
		for range 5 {
			if got, _ := r.ask(http.MethodGet, "/same", header); got != first {
				t.Errorf("user %d goes to %q, then to %q", user, first, got)
			}
		}
	}
	if len(endpoints) < 2 {
		t.Errorf("all users go to %v", endpoints)
	}
}
