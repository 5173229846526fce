package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/deploy/demo"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// loopbacks numbers the catalogs that this process has moved.
var loopbacks atomic.Int64

// movedCatalog is the demo's catalog on addresses of the test's own, so that a
// dev, a demo or another run of these tests on this machine is not in the way.
func movedCatalog(t *testing.T) string {
	t.Helper()
	first := 10 + 2*((int64(os.Getpid())+17*loopbacks.Add(1))%120)
	moved := strings.NewReplacer("127.1.", fmt.Sprintf("127.%d.", first), "127.2.", fmt.Sprintf("127.%d.", first+1))
	dir := t.TempDir()
	if err := os.CopyFS(dir, demo.Catalog()); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(moved.Replace(string(data))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// startDev runs dev in this process until the test ends, and returns the
// environment in which other commands find it, once everything serves.
func startDev(t *testing.T, catalog string, more ...string) (environment func(string) string) {
	t.Helper()
	home := t.TempDir()
	environment = func(name string) string {
		switch name {
		case "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "HOME":
			return home
		}
		return ""
	}
	introduced, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- newApp(out, t.Output(), environment).main(ctx, append([]string{"dev", "--catalog", catalog, "--log-level", "error"}, more...))
		out.Close()
	}()
	t.Cleanup(func() {
		stop()
		go io.Copy(io.Discard, introduced)
		if code := <-ended; code != exitOK {
			t.Errorf("dev ended with exit code %d", code)
		}
		if _, err := findDev(environment); !errors.Is(err, errNoDev) {
			t.Errorf("dev has left its state behind: %v", err)
		}
	})
	first := make([]byte, len("isthmus dev runs"))
	if _, err := io.ReadFull(introduced, first); err != nil {
		t.Fatalf("dev said %q: %v", first, err)
	}
	go io.Copy(io.Discard, introduced)
	awaitServing(t, environment)
	return environment
}

// awaitServing waits until every gateway and sidecar of the dev reports that it
// serves.
func awaitServing(t *testing.T, environment func(string) string) {
	t.Helper()
	dev, err := findDev(environment)
	if err != nil {
		t.Fatal(err)
	}
	log, err := bus.Connect(dev.NATS, bus.Options{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, d := range dev.Datacenters {
		errServing := errors.New("all serve")
		drive := bus.Drive{
			Log: log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassStatus, d.Name)}, Machine: bus.MachineFunc(func(*isthmusv1.Transaction) {}),
			// An xds node's last report need not have all of its Envoys.
			Emit: func(ctx context.Context, _ *isthmusv1.Basis) error {
				status, err := history.StatusAt(ctx, log, d.Name, time.Now())
				if err != nil {
					return err
				}
				serving := map[string]bool{}
				for _, p := range status.Proxies {
					if p.Connected {
						serving[p.Proxy] = true
					}
				}
				for _, g := range status.Gateways {
					if g.State == "serving" {
						serving[g.Name] = true
					}
				}
				if len(serving) == len(d.Gateways)+len(d.Sidecars) {
					return errServing
				}
				return nil
			},
		}
		if err := drive.Run(t.Context()); !errors.Is(err, errServing) {
			t.Fatal(err)
		}
	}
}

// Every command that asks finds a running dev without flags.
func TestCommandsFindARunningDev(t *testing.T) {
	catalog := movedCatalog(t)
	environment := startDev(t, catalog)
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"explain web api", []string{"web (dc1-web-1/web-sidecar-proxy) → api in dc2", "upstream                 remote  WINS    dc1/dc1-web-1/web.hcl:"}},
		{"explain web search@dc2 -o json", []string{`"path": "local-gateway"`, `"level": "proxy-defaults"`}},
		{"log", []string{"proxy-defaults/global added: mesh gateway mode local", "dc2 #"}},
		{"log --routes --datacenter dc2 -o json", []string{`"stream":"ROUTES_dc2"`}},
		{"replay", []string{"√ ROUTES_dc1: ", "√ ROUTES_dc2: "}},
		{"gateways", []string{"dc1-gateway-1/mesh-gateway  127.", ".0.20:8443", "serving"}},
		{"proxies", []string{"dc1-web-1/web-sidecar-proxy", "connected"}},
		{"proxy config dc1-gateway-1/mesh-gateway", []string{"listener", "the cluster of the server name"}},
		{"probe web", []string{"√ dc1-web-1/web-sidecar-proxy → api@dc2 connected", "→ logging@dc2 connected", "(local-gateway)", "(remote-gateway)", "(direct)"}},
		{"probe web db@dc2 -o json", []string{`"ok": true`, `"path": "local-gateway"`}},
	} {
		out, code := ask(t, environment, strings.Fields(tt.args)...)
		if code != exitOK {
			t.Errorf("isthmus %s: exit code %d\n%s", tt.args, code, out)
		}
		for _, part := range tt.want {
			if !strings.Contains(out, part) {
				t.Errorf("isthmus %s does not say %q:\n%s", tt.args, part, out)
			}
		}
	}
	if _, code := ask(t, environment, "dev", "--catalog", catalog); code != exitFailure {
		t.Errorf("a second dev: exit code %d", code)
	}

	t.Log("what the files say next, the log tells and the probe meets")
	deny := "Kind: service-intentions\nName: api\nSources:\n  - Name: web\n    Action: deny\n"
	dev, _ := findDev(environment)
	log, err := bus.Connect(dev.NATS, bus.Options{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	before, err := log.State(t.Context(), "CATALOG_dc2")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(catalog, "dc2", "deny.yaml"), []byte(deny), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := awaitBasis(log, "dc2", "CATALOG_dc2", before.Last); err != nil {
		t.Fatal(err)
	}
	awaitApplied(t, log, "dc2", "dc2-api-1/api-sidecar-proxy", before.Last)
	if out, code := ask(t, environment, "probe", "web", "api"); code != exitFailure || !strings.Contains(out, "fails at intention") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := ask(t, environment, "explain", "web", "api", "-o", "json"); code != exitOK || !strings.Contains(out, `"allowed": false`) {
		t.Errorf("exit code %d: %s", code, out)
	}

	var gateways []history.GatewayStatus
	out, _ := ask(t, environment, "gateways", "-o", "json")
	if err := json.Unmarshal([]byte(out), &gateways); err != nil || len(gateways) != 4 {
		t.Errorf("%d gateways, %v", len(gateways), err)
	}
	for _, g := range gateways {
		if !g.Registered || g.Age == nil || *g.Age > time.Hour.Seconds() || g.Routes == 0 {
			t.Errorf("%+v", g)
		}
	}
}

// awaitApplied waits until a proxy reports a basis with its own catalog beyond a
// sequence.
func awaitApplied(t *testing.T, log bus.Log, datacenter, proxy string, beyond uint64) {
	t.Helper()
	errApplied := errors.New("applied")
	applied := uint64(0)
	drive := bus.Drive{
		Log: log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassStatus, datacenter)},
		Machine: bus.MachineFunc(func(tx *isthmusv1.Transaction) {
			for _, c := range tx.Changes {
				report, _ := c.Value.(*isthmusv1.Report)
				for _, p := range report.GetProxies() {
					if p.GetProxy() == proxy {
						applied = p.GetBasis().At(isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter)).GetSequence()
					}
				}
			}
		}),
		Emit: func(context.Context, *isthmusv1.Basis) error {
			if applied > beyond {
				return errApplied
			}
			return nil
		},
	}
	if err := drive.Run(t.Context()); !errors.Is(err, errApplied) {
		t.Fatal(err)
	}
}
