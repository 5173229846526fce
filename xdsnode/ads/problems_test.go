package ads_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/credentials/insecure"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/ads"
)

// logged is what a logger writes.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write is a writer's.
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is all of it.
func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// What of a proxy's settings cannot be served is logged when the proxy connects and when
// it is written, once.
func TestProblemsAreLogged(t *testing.T) {
	var lines logged
	n := newNodeOf(t, ads.Config{Logger: slog.New(slog.NewTextHandler(&lines, nil))}, insecure.NewCredentials())
	sidecar := func(config string) values {
		return values{isthmusv1.ProxyKey("", "n1", "", "web"): &isthmusv1.ProxyRoutes{
			Node: "n1", Id: "web", Kind: isthmusv1.InstanceKindProxy, Service: &isthmusv1.ServiceRef{Name: "web"}, Address: "10.0.0.1", Port: 21000,
			ConfigJson: []byte(config),
		}}
	}
	n.change(sidecar(`{"envoy_local_cluster_json":"{"}`))
	e := n.connect("web", "n1")
	e.subscribe(xdsnode.Cluster, "*")
	e.want(xdsnode.Cluster, []string{"local_app"}, nil)
	n.change(sidecar(`{"envoy_local_cluster_json":"{","local_connect_timeout_ms":7}`))
	n.change(sidecar(`{"envoy_local_cluster_json":"{","envoy_public_listener_json":"{"}`))
	for what, want := range map[string]int{"envoy_local_cluster_json": 1, "envoy_public_listener_json": 1} {
		if got := strings.Count(lines.String(), `problem="`+what); got != want {
			t.Errorf("%s is logged %d times, want %d:\n%s", what, got, want, lines.String())
		}
	}
}
