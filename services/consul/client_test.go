package consul_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// An agent may stand behind a proxy that has it under a path and wants a password, for
// every way of asking.
func TestAgentBehindAProxy(t *testing.T) {
	var mu sync.Mutex
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.Path)
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "a:b" {
			t.Errorf("%s came with %q and %q", r.URL.Path, user, password)
		}
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(server.Close)
	for _, address := range []string{server.URL + "/behind/here", server.URL + "/behind/here/"} {
		client, err := consul.Open(consul.Options{Address: address, Environment: func(name string) string {
			return map[string]string{"CONSUL_HTTP_AUTH": "me:a:b"}[name]
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		if _, _, err := client.Nodes(t.Context(), consul.Query{}); err != nil {
			t.Error(err)
		}
		if _, _, err := client.Members(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	for _, path := range paths {
		if !slices.Contains([]string{"/behind/here/v1/catalog/nodes", "/behind/here/v1/agent/members"}, path) {
			t.Errorf("asked for %s", path)
		}
	}
	if len(paths) != 4 {
		t.Errorf("asked %d times", len(paths))
	}
}
