package role

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Times of the admin server: for a client that says nothing, and for one that
// does not let go when the role stops.
const (
	adminHeaderTimeout = 5 * time.Second
	adminStopTimeout   = time.Second
	// adminBindAgain is how often an address that is held is tried again.
	adminBindAgain = 50 * time.Millisecond
)

// Admin is a role's HTTP server for those who run it:
//
//	GET /healthz          200 for as long as the process answers
//	GET /readyz           200 when ready, else 503 with what is waited for; ?verbose lists all components
//	GET /metrics          Prometheus
//	GET /debug/pprof/     profiles, only with Pprof
//
// It asks for no credentials; bind it to loopback or to a network of your own.
type Admin struct {
	// Bind is the address to listen on, like 127.0.0.1:9500; port 0 takes a free one.
	Bind string
	// Health answers /readyz.
	Health *Health
	// Metrics answers /metrics. Nil: there are none.
	Metrics prometheus.Gatherer
	// Pprof serves profiles, which show more than a stranger should see.
	Pprof bool
	// Handlers are more paths of this role, by their patterns.
	Handlers map[string]http.Handler
	// Wait: an address that another process holds is waited for, while the role
	// goes on without it, instead of being an error. It is for a role whose
	// predecessor hands over to it.
	Wait bool
	// Release makes the server let go of its address once it is closed, while the
	// role goes on. Nil: it keeps it to the end.
	Release <-chan struct{}
	// Bound hears the address once it is bound. May be nil.
	Bound func(net.Addr)
	// Logger hears what the server has to say. Nil: nobody does.
	Logger *slog.Logger
}

// Component is the admin server as a row of a role's table. It belongs first in
// the table: it can then say what the rest is waiting for, and it stops last.
func (a Admin) Component() Component {
	return Component{Name: "admin", Run: a.Run}
}

// Run serves until ctx ends. It returns an error if the address cannot be bound.
func (a Admin) Run(ctx context.Context, started func()) error {
	listener, err := a.listen(ctx, started)
	if err != nil {
		return err
	}
	if a.Bound != nil {
		a.Bound(listener.Addr())
	}
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: adminHeaderTimeout}
	if a.Logger != nil {
		server.ErrorLog = slog.NewLogLogger(a.Logger.Handler(), slog.LevelWarn)
		a.Logger.LogAttrs(ctx, slog.LevelInfo, "admin server listens", slog.String("address", listener.Addr().String()))
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	started()

	select {
	case err := <-served:
		return fmt.Errorf("serve admin requests: %w", err)
	case <-a.Release:
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminStopTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // Whoever still holds a request, like a profile, loses it.
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin requests: %w", err)
	}
	<-ctx.Done()
	return nil
}

// listen binds the address. Where it has to wait for that, the role goes on.
func (a Admin) listen(ctx context.Context, started func()) (net.Listener, error) {
	again := time.NewTicker(adminBindAgain)
	defer again.Stop()
	for waited := false; ; waited = true {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.Bind)
		if err == nil {
			return listener, nil
		}
		err = fmt.Errorf("listen for admin requests: %w", err)
		if !a.Wait || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		if !waited {
			started()
			if a.Logger != nil {
				a.Logger.LogAttrs(ctx, slog.LevelInfo, "the admin address is waited for, as another process holds it", slog.String("address", a.Bind))
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Handler is what the server answers.
func (a Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "alive\n") })
	mux.HandleFunc("GET /readyz", a.ready)
	if a.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}))
	}
	if a.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	for pattern, handler := range a.Handlers {
		mux.Handle(pattern, handler)
	}
	return mux
}

func (a Admin) ready(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	if !a.Health.Ready() {
		status = http.StatusServiceUnavailable
	}
	writeText(w, status, a.Health.Text(r.URL.Query().Has("verbose")))
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}
