package role

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func get(t *testing.T, handler http.Handler, path string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.String()
}

func TestAdminHandler(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_test", Help: "Is there."}, func() float64 { return 7 }))
	plain := Admin{Health: &Health{}, Metrics: registry}.Handler()
	debugged := Admin{Health: &Health{}, Pprof: true, Handlers: map[string]http.Handler{
		"GET /table": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a table") }),
	}}.Handler()
	for _, tt := range []struct {
		name    string
		handler http.Handler
		path    string
		code    int
		text    string
	}{
		{"alive", plain, "/healthz", 200, "alive\n"},
		{"not ready", plain, "/readyz", 503, "not ready\n"},
		{"metrics", plain, "/metrics", 200, "isthmus_test 7"},
		{"no metrics", debugged, "/metrics", 404, ""},
		{"no profiles unless asked for", plain, "/debug/pprof/", 404, ""},
		{"profiles", debugged, "/debug/pprof/", 200, "goroutine"},
		{"a path of the role's own", debugged, "/table", 200, "a table"},
		{"anything else", plain, "/", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, text := get(t, tt.handler, tt.path)
			if code != tt.code || !strings.Contains(text, tt.text) {
				t.Errorf("%d %q, want %d %q", code, text, tt.code, tt.text)
			}
		})
	}
}

func TestAdminServesWhileTheRoleRuns(t *testing.T) {
	var health Health
	ctx, cancel := context.WithCancel(t.Context())
	bound := make(chan net.Addr, 1)
	ready := make(chan struct{})
	admin := Admin{Bind: "127.0.0.1:0", Health: &health, Bound: func(a net.Addr) { bound <- a }}
	last := Component{Name: "last", Run: func(ctx context.Context, started func()) error {
		started()
		close(ready)
		<-ctx.Done()
		return nil
	}}
	after := Component{Name: "after", Run: last.Run}
	after.Run = func(ctx context.Context, started func()) error { started(); <-ctx.Done(); return nil }
	done := make(chan error, 1)
	go func() { done <- Run(ctx, []Component{admin.Component(), after, last}, Options{Health: &health}) }()
	address := <-bound
	<-ready
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address.String()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopping returned %v", err)
	}
	if response, err = client.Do(request); err == nil {
		response.Body.Close()
		t.Error("it still answers")
	}
}

func TestAdminNamesAnAddressThatIsTaken(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = Admin{Bind: taken.Addr().String()}.Run(t.Context(), func() { t.Error("started") })
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %v does not name the address", err)
	}
}

// A role and its successor have the same address: whoever is in charge answers.
func TestAdminOfASuccessorWaitsForItsPredecessor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 2)
	serve := func(a Admin) (started chan struct{}) {
		started = make(chan struct{}, 2)
		go func() { ended <- a.Run(ctx, func() { started <- struct{}{} }) }()
		return started
	}
	bound := make(chan net.Addr, 1)
	release := make(chan struct{})
	<-serve(Admin{Bind: "127.0.0.1:0", Release: release, Bound: func(a net.Addr) { bound <- a }})
	address := <-bound
	// The successor's role goes on while its address is held.
	<-serve(Admin{Bind: address.String(), Wait: true, Bound: func(a net.Addr) { bound <- a }})
	close(release)
	if got := <-bound; got.String() != address.String() {
		t.Errorf("the successor is at %s; want %s", got, address)
	}
	select {
	case err := <-ended:
		t.Errorf("one ended before its role did: %v", err)
	default:
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestAdminThatWaitsEndsWithItsRole(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = Admin{Bind: taken.Addr().String(), Wait: true}.Run(ctx, cancel)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestNewLogHandler(t *testing.T) {
	var text, structured bytes.Buffer
	for _, tt := range []struct {
		format string
		out    *bytes.Buffer
	}{{"text", &text}, {"json", &structured}} {
		handler, err := NewLogHandler(tt.out, tt.format, "warn")
		if err != nil {
			t.Fatal(err)
		}
		logger := slog.New(handler)
		logger.Info("too quiet")
		logger.Warn("loud", "dc", "dc1")
	}
	if got := text.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "msg=loud dc=dc1") {
		t.Errorf("text %q", got)
	}
	var line struct{ Msg, DC string }
	if err := json.Unmarshal(structured.Bytes(), &line); err != nil || line.Msg != "loud" || line.DC != "dc1" {
		t.Errorf("json %q: %v", structured.String(), err)
	}
	if _, err := NewLogHandler(io.Discard, "xml", "info"); !errors.Is(err, ErrLogFormat) {
		t.Errorf("format: %v", err)
	}
	if _, err := NewLogHandler(io.Discard, "text", "chatty"); !errors.Is(err, ErrLogLevel) {
		t.Errorf("level: %v", err)
	}
}

func TestReadBuild(t *testing.T) {
	if got := ReadBuild("v1.2.3"); got.Version != "v1.2.3" || got.Go == "" || !strings.Contains(got.Platform, "/") {
		t.Errorf("linked: %+v", got)
	}
	if got := ReadBuild(""); got.Version == "" {
		t.Errorf("not linked: %+v", got)
	}
}

func TestSignalsNameTheSignal(t *testing.T) {
	ctx, stop := Signals(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !strings.Contains(cause.Error(), "terminated") {
		t.Errorf("cause %v", cause)
	}
}
