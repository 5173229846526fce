package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/demo"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// service is one of dc2 that web of dc1 uses, with the last number of its address
// and web's local port.
type service struct {
	name string
	host int
	port int
}

var services = []service{{"api", 10, 10000}, {"db", 11, 10001}, {"logging", 12, 10002}, {"search", 13, 10003}}

// world is two datacenters, each role of them a process.
type world struct {
	t *testing.T
	// dir holds all that processes keep; dc1 and dc2 are the networks' first
	// three numbers.
	dir, dc1, dc2 string
	ca            *identity.DevCA
	nats          string
	replicas      string
	admins        int

	bus *process
	// roles by names like "watcher.dc1.a" and "dc2-gateway-1".
	roles map[string]*process
	// web is the text of web's file, without the upstream that changes move, and
	// changes counts them.
	web     string
	changes int
}

// newWorld writes the catalog and starts the applications. The networks are of
// this process alone, so that runs beside each other do not meet.
func newWorld(t *testing.T, leafTTL time.Duration) *world {
	t.Helper()
	own := os.Getpid() % 250
	w := &world{
		t: t, dir: t.TempDir(), roles: make(map[string]*process), replicas: "1",
		dc1: fmt.Sprintf("127.251.%d.", own), dc2: fmt.Sprintf("127.252.%d.", own),
	}
	var err error
	if w.ca, err = identity.OpenDevCA(w.path("ca"), identity.DevCAConfig{LeafTTL: leafTTL}); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(w.path("catalog"), demo.Catalog()); err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer("127.1.0.", w.dc1, "127.2.0.", w.dc2)
	err = filepath.WalkDir(w.path("catalog"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(moved.Replace(string(text))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	// The fifth upstream, which changes move from port to port, is api too.
	moving := "Kind = \"service-resolver\"\nName = \"moving\"\nRedirect {\n  Service    = \"api\"\n  Datacenter = \"dc2\"\n}\n"
	if err := os.WriteFile(w.path("catalog", "dc1", "moving.hcl"), []byte(moving), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.path("catalog", "dc1", "dc1-web-1", "web.hcl"))
	if w.web = string(text); err != nil || strings.Count(w.web, webUpstreams) != 1 {
		t.Fatalf("web's file has no upstreams where a change adds one: %v", err)
	}
	for _, s := range services {
		w.serve(s.name, fmt.Sprintf("%s%d:8080", w.dc2, s.host))
	}
	return w
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.dir}, elements...)...)
}

// serve runs an application until the test ends: it answers with its name.
func (w *world) serve(name, address string) {
	w.t.Helper()
	w.t.Cleanup(w.application(name, address))
}

// application does so until it is stopped.
func (w *world) application(name, address string) (stop func()) {
	w.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: patience,
		Handler:           http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, name) }),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	return func() {
		server.Close()
		<-ended
	}
}

// role makes a process with an admin address of its own, and does not start it.
func (w *world) role(name string, args ...string) *process {
	w.admins++
	p := &process{
		name: name, args: args, logFile: w.path(name + ".log"),
		admin: fmt.Sprintf("%s%d:9500", w.dc1, 100+w.admins),
	}
	w.roles[name] = p
	return p
}

// startBus starts one NATS server.
func (w *world) startBus() {
	w.t.Helper()
	address := w.dc1 + "100:4222"
	w.nats = "nats://" + address
	w.bus = w.role("bus", "bus", "--listen", address, "--store-dir", w.path("nats"))
	w.bus.start(w.t)
}

// startControl starts the watchers and resolvers of both datacenters, two of
// each kind: the first becomes active, the second follows hot.
func (w *world) startControl() {
	w.t.Helper()
	for _, second := range []string{"a", "b"} {
		for _, dc := range []string{"dc1", "dc2"} {
			w.role("watcher."+dc+"."+second, "watcher", "--datacenter", dc, "--nats", w.nats,
				"--catalog", w.path("catalog"), "--ca-dir", w.path("ca"), "--replicas", w.replicas).start(w.t)
		}
		for _, dc := range []string{"dc1", "dc2"} {
			w.role("resolver."+dc+"."+second, "resolver", "--datacenter", dc, "--nats", w.nats, "--replicas", w.replicas).start(w.t)
		}
	}
}

// startData starts gateways and sidecars.
func (w *world) startData() {
	w.t.Helper()
	for _, number := range []int{1, 2} {
		w.gateway("dc1", w.dc1, number).start(w.t)
		w.gateway("dc2", w.dc2, number).start(w.t)
	}
	for _, s := range services {
		w.sidecar("dc2", s.name).start(w.t)
	}
	w.sidecar("dc1", "web").start(w.t)
	for _, s := range services {
		w.awaitAnswer(s.name, w.upstream(s.port))
	}
}

func (w *world) gateway(dc, network string, number int) *process {
	name := fmt.Sprintf("%s-gateway-%d", dc, number)
	state := w.path(name)
	if err := os.MkdirAll(state, 0o700); err != nil {
		w.t.Fatal(err)
	}
	address := fmt.Sprintf("%s%d", network, 19+number)
	return w.role(name, "gateway", "--datacenter", dc, "--nats", w.nats, "--name", name,
		"--listen", address+":8443", "--listen", address+":8444", "--state-dir", state, "--handover", filepath.Join(state, "handover"))
}

func (w *world) sidecar(dc, service string) *process {
	return w.role(service, "sidecar", "--datacenter", dc, "--nats", w.nats, "--for", service+"-sidecar-proxy",
		"--ca-dir", w.path("ca"), "--state-file", w.path(service+".state"))
}

// upstream is the URL of web's local listener.
func (w *world) upstream(port int) string { return fmt.Sprintf("http://%s10:%d/", w.dc1, port) }

func (w *world) awaitAnswer(service, url string) {
	w.t.Helper()
	client := newClient(false, nil)
	await(w.t, service+" does not answer", (&target{service, url}).asker(client))
}

// webUpstreams is where web's file has its upstreams.
const webUpstreams = "    upstreams = ["

// change moves web's fifth upstream to another local port in its file, and
// returns how long it took from the file's last byte to the first answer at the
// new port: through the watcher and the resolver of dc1 to the sidecar.
func (w *world) change() time.Duration {
	w.t.Helper()
	w.changes++
	port := 10100 + w.changes
	path := w.path("catalog", "dc1", "dc1-web-1", "web.hcl")
	upstream := fmt.Sprintf(`
      { destination_name = "moving", local_bind_address = "%s10", local_bind_port = %d },`, w.dc1, port)
	edited := strings.Replace(w.web, webUpstreams, webUpstreams+upstream, 1)
	if err := os.WriteFile(path+".new~", []byte(edited), 0o600); err != nil {
		w.t.Fatal(err)
	}
	written := time.Now()
	if err := os.Rename(path+".new~", path); err != nil {
		w.t.Fatal(err)
	}
	w.awaitAnswer("api", w.upstream(port))
	return time.Since(written)
}

// sni is the name that a service of dc2 has on the wire.
func (w *world) sni(service string) string {
	return isthmusv1.SNI(&isthmusv1.ServiceRef{Name: service}, "", "dc2", w.ca.TrustDomain())
}
