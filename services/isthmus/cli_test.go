package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/embed"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// The scripts run the real main, in processes of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"isthmus": main})
}

// TestScripts runs testdata/script. Beside testscript's own commands there are:
//
//	code N isthmus ARGS…   the exit code is N
//	bus                    a NATS server, watchers of $WORK/catalog and resolvers;
//	                       ISTHMUS_NATS says where
//	change DC/FILE TEXT    rewrites a file of the catalog, and waits until the routes
//	                       are those of the change
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("HOME", env.WorkDir+"/home")
			env.Values[worldKey{}] = &scriptBus{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": exitsWith, "bus": startScriptBus, "change": changeCatalog,
		},
	})
}

// exitsWith runs a command and wants one exit code.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command args...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if got := fmt.Sprint(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

type worldKey struct{}

// scriptBus is the bus of one script.
type scriptBus struct {
	log *bus.JetStream
}

func startScriptBus(ts *testscript.TestScript, _ bool, _ []string) {
	server, err := embed.Start(embed.Options{StoreDir: ts.MkAbs("nats")})
	ts.Check(err)
	ts.Defer(server.Stop)
	log, err := bus.Connect(server.URL(), bus.Options{Name: "script"})
	ts.Check(err)
	ts.Defer(log.Close)

	p := parts{log: log, owner: "script", logger: slog.New(slog.DiscardHandler), registerer: newRegistry()}
	entries, err := os.ReadDir(ts.MkAbs("catalog"))
	ts.Check(err)
	var table []role.Component
	for _, e := range entries {
		w, err := watcherPart(p, watcherSettings{datacenter: e.Name(), catalog: ts.MkAbs("catalog"), trustDomain: "td.consul"})
		ts.Check(err)
		r, err := resolverPart(p, e.Name(), 1)
		ts.Check(err)
		table = append(table, w, r)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- role.Run(ctx, table, role.Options{}) }()
	ts.Defer(func() {
		stop()
		if err := <-ended; err != nil {
			ts.Logf("the parts ended with %v", err)
		}
	})
	ts.Setenv("ISTHMUS_NATS", server.URL())
	ts.Value(worldKey{}).(*scriptBus).log = log
	for _, e := range entries {
		for _, other := range entries {
			ts.Check(awaitBasis(log, e.Name(), "CATALOG_"+other.Name(), 0))
		}
	}
}

// awaitBasis waits until the routes of a datacenter have a basis with a catalog
// beyond a sequence.
func awaitBasis(log bus.Log, datacenter, catalog string, beyond uint64) error {
	errHere := errors.New("it is here")
	var basis *isthmusv1.Basis
	drive := bus.Drive{
		Log: log, Streams: []string{isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter)},
		Machine: bus.MachineFunc(func(t *isthmusv1.Transaction) {
			if b := t.End.GetBasis(); b != nil {
				basis = b
			}
		}),
		Emit: func(context.Context, *isthmusv1.Basis) error {
			if basis.At(catalog).GetSequence() > beyond {
				return errHere
			}
			return nil
		},
	}
	if err := drive.Run(context.Background()); !errors.Is(err, errHere) {
		return err
	}
	return nil
}

func changeCatalog(ts *testscript.TestScript, _ bool, args []string) {
	datacenter, _, _ := strings.Cut(args[0], "/")
	log := ts.Value(worldKey{}).(*scriptBus).log
	state, err := log.State(context.Background(), isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter))
	ts.Check(err)
	name := ts.MkAbs(filepath.Join("catalog", args[0]))
	ts.Check(os.WriteFile(name+".new", []byte(args[1]), 0o600))
	ts.Check(os.Rename(name+".new", name))
	ts.Check(awaitBasis(log, "dc1", state.Stream, state.Last))
}

// output is where a command in this process writes.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// ask runs a command in this process.
func ask(t *testing.T, environment func(string) string, args ...string) (stdout string, code int) {
	t.Helper()
	var out output
	code = newApp(&out, t.Output(), environment).main(t.Context(), args)
	return out.String(), code
}

// Every command says what it does, how it is used, and by which example.
func TestEveryCommandHelps(t *testing.T) {
	root := newApp(io.Discard, io.Discard, func(string) string { return "" }).root()
	seen := map[string]bool{}
	for _, cmd := range root.Commands() {
		seen[cmd.Name()] = true
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.Name(), cmd.Short)
		}
		if !strings.Contains(cmd.Example, "isthmus "+cmd.Name()) {
			t.Errorf("%s has no example of itself", cmd.Name())
		}
		if cmd.GroupID == "" {
			t.Errorf("%s stands in no group", cmd.Name())
		}
	}
	for name := range strings.FieldsSeq("demo dev validate explain log replay gateways proxies probe watcher resolver gateway sidecar xds envoy sds bootstrap bus version") {
		if !seen[name] {
			t.Errorf("there is no command %s", name)
		}
	}
}
