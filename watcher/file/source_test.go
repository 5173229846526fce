package file_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

// fixture is a catalog directory, a watcher of its dc1, and the log that it
// writes, followed by a reader.
type fixture struct {
	t       *testing.T
	catalog string
	log     *memlog.Log
	source  *file.Source
	watcher *watcher.Watcher
	// arrived receives each transaction of the log but the writers'.
	arrived chan *isthmusv1.Transaction
	// said receives the messages that the source logs.
	said chan string
}

// notifiers runs a test with the kernel's notifier and with the portable one.
func notifiers(t *testing.T, files map[string]string, test func(t *testing.T, f *fixture)) {
	for name, poll := range map[string]time.Duration{"kernel": 0, "poll": 5 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, files)
			f.run(file.Options{Poll: poll})
			test(t, f)
		})
	}
}

// newFixture writes the files; their names are relative to the catalog.
func newFixture(t *testing.T, files map[string]string) *fixture {
	f := &fixture{
		t: t, catalog: filepath.Join(t.TempDir(), "catalog"), log: memlog.New(memlog.Options{}),
		arrived: make(chan *isthmusv1.Transaction, 1024), said: make(chan string, 1024),
	}
	f.mkdir("dc1")
	for name, text := range files {
		f.write(name, text)
	}
	return f
}

// run starts the watcher and the reader.
func (f *fixture) run(options file.Options) {
	f.t.Helper()
	options.Catalog, options.Datacenter = f.catalog, "dc1"
	options.Logger = slog.New(recorder{f.said})
	var err error
	if f.source, err = file.New(options); err != nil {
		f.t.Fatal(err)
	}
	f.watcher, err = watcher.New(watcher.Config{
		Datacenter: "dc1", Source: f.source, Writer: bus.WriterConfig{Log: f.log, Owner: "test"},
		Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil)),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	reader := &bus.Drive{Log: f.log, Streams: []string{"CATALOG_dc1"}, Machine: bus.MachineFunc(func(t *isthmusv1.Transaction) {
		if len(t.Changes) != 1 || t.Changes[0].Key != isthmusv1.WriterKey() {
			f.arrived <- t
		}
	})}
	f.spawn(f.watcher.Run)
	f.spawn(reader.Run)
}

// spawn runs something until the test ends.
func (f *fixture) spawn(run func(context.Context) error) {
	ctx, stop := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	f.t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			f.t.Errorf("ended with %v", err)
		}
	})
}

// next waits for the next transaction.
func (f *fixture) next() *isthmusv1.Transaction {
	f.t.Helper()
	select {
	case t := <-f.arrived:
		return t
	case <-f.t.Context().Done():
		f.t.Fatal("no transaction came")
		return nil
	}
}

// wantNext waits for the next transaction and compares it: one line per key.
func (f *fixture) wantNext(want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, lines(f.next())); diff != "" {
		f.t.Fatalf("transaction (-want +got):\n%s", diff)
	}
}

// lines shows a transaction's changes, but for the writer's and mesh facts.
func lines(t *isthmusv1.Transaction) []string {
	var out []string
	for _, c := range t.Changes {
		switch v := c.Value.(type) {
		case nil:
			out = append(out, "- "+c.Key.String())
		case *isthmusv1.ServiceInstance:
			out = append(out, "+ "+c.Key.String()+" "+strings.Join(v.GetTags(), ","))
		case *isthmusv1.ConfigEntry:
			out = append(out, "+ "+c.Key.String()+" "+v.GetProxyDefaults().GetMeshGateway().GetMode())
		case *isthmusv1.MeshFacts:
			out = append(out, "+ known "+strings.Join(v.GetKnownDatacenters(), " "))
		}
	}
	slices.Sort(out)
	return out
}

// waitSaid waits until the source has logged the message.
func (f *fixture) waitSaid(message string) {
	f.t.Helper()
	for {
		select {
		case got := <-f.said:
			if strings.Contains(got, message) {
				return
			}
		case <-f.t.Context().Done():
			f.t.Fatalf("the source did not say %q", message)
		}
	}
}

func (f *fixture) path(name string) string { return filepath.Join(f.catalog, filepath.FromSlash(name)) }

func (f *fixture) mkdir(name string) {
	f.t.Helper()
	f.must(os.MkdirAll(f.path(name), 0o755))
}

func (f *fixture) write(name, text string) {
	f.t.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	f.must(os.WriteFile(f.path(name), []byte(text), 0o644))
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// recorder hands log messages to a test.
type recorder struct{ said chan string }

func (r recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r recorder) WithGroup(string) slog.Handler            { return r }
func (r recorder) Handle(_ context.Context, record slog.Record) error {
	text := record.Message
	record.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	select {
	case r.said <- text:
	default:
	}
	return nil
}

// service is a definition of a service with one tag, to see it change.
func service(name, tag string) string {
	return "service {\n  name = \"" + name + "\"\n  port = 80\n  tags = [\"" + tag + "\"]\n}\n"
}

func mode(m string) string {
	return "Kind = \"proxy-defaults\"\nName = \"global\"\nMeshGateway { Mode = \"" + m + "\" }\n"
}

func instance(name, tag string) string { return "+ instance/dc1/" + name + " " + tag }

func TestWriteIsPublished(t *testing.T) {
	notifiers(t, map[string]string{"dc1/web.hcl": service("web", "1")}, func(t *testing.T, f *fixture) {
		first := f.next()
		if !first.Reset || !slices.Contains(lines(first), instanceOf(first, "web", "1")) {
			t.Fatalf("the first state is %v", lines(first))
		}
		f.write("dc1/web.hcl", service("web", "2"))
		f.wantNext(instanceOf(first, "web", "2"))
		f.write("dc1/defaults.hcl", mode("local"))
		f.wantNext("+ config/proxy-defaults/global local")
	})
}

// instanceOf is an instance's line, on the node that the first state gave it.
func instanceOf(first *isthmusv1.Transaction, name, tag string) string {
	for _, c := range first.Changes {
		if v, ok := c.Value.(*isthmusv1.ServiceInstance); ok {
			return "+ instance/" + strings.ToLower(v.GetNode()) + "/" + name + " " + tag
		}
	}
	return instance(name, tag)
}

func TestRemovedFileBecomesTombstones(t *testing.T) {
	notifiers(t, map[string]string{
		"dc1/web.hcl": service("web", "1"), "dc1/defaults.hcl": mode("local"),
	}, func(t *testing.T, f *fixture) {
		f.next()
		f.must(os.Remove(f.path("dc1/defaults.hcl")))
		f.wantNext("- config/proxy-defaults/global")
	})
}

func TestRenamedIntoPlace(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		f.write("dc1/.defaults.hcl.new", mode("remote"))
		f.must(os.Rename(f.path("dc1/.defaults.hcl.new"), f.path("dc1/defaults.hcl")))
		f.wantNext("+ config/proxy-defaults/global remote")
	})
}

func TestNewDirectoriesAreFollowed(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		f.mkdir("dc1/a/b/c")
		f.write("dc1/a/b/c/resolver.hcl", "Kind = \"service-resolver\"\nName = \"web\"\n")
		f.wantNext("+ config/service-resolver/web ")
		f.write("dc1/a/b/splitter.json", `{"Kind": "service-defaults", "Name": "web", "Protocol": "http"}`)
		f.wantNext("+ config/service-defaults/web ")
		f.must(os.RemoveAll(f.path("dc1/a/b/c")))
		f.wantNext("- config/service-resolver/web")
		f.must(os.Rename(f.path("dc1/a"), f.path("a-outside")))
		got := f.next()
		for slices.Contains(lines(got), "+ known a-outside dc1") && len(lines(got)) == 1 {
			got = f.next()
		}
		if !slices.Contains(lines(got), "- config/service-defaults/web") {
			t.Fatalf("a directory that was moved away left %v", lines(got))
		}
	})
}
