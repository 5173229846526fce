package file_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

func TestSiblingsAreKnownDatacenters(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local"), "dc2/x.txt": ""}, func(t *testing.T, f *fixture) {
		if first := f.next(); !slices.Contains(lines(first), "+ known dc1 dc2") {
			t.Fatalf("the first state is %v", lines(first))
		}
		f.mkdir("dc3")
		f.wantNext("+ known dc1 dc2 dc3")
		f.must(os.RemoveAll(f.path("dc2")))
		f.wantNext("+ known dc1 dc3")
	})
}

func TestBadFileKeepsLastGoodOfAll(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		f.write("dc1/defaults.hcl", mode("sideways"))
		f.waitSaid("defaults.hcl")
		problems := f.source.Problems()
		if len(problems) != 1 || problems[0].File != "defaults.hcl" || problems[0].Line != 3 || problems[0].Fix == "" {
			t.Errorf("problems are %v, want one of defaults.hcl line 3 with a fix", problems)
		}
		// A good file beside a bad one waits.
		f.write("dc1/resolver.hcl", "Kind = \"service-resolver\"\nName = \"web\"\n")
		f.write("dc1/defaults.hcl", mode("remote"))
		f.wantNext("+ config/proxy-defaults/global remote", "+ config/service-resolver/web ")
		f.waitSaid("no problems any more")
		if got := f.source.Problems(); len(got) > 0 {
			t.Errorf("problems are left: %v", got)
		}
	})
}

// A file counts as it was until its writer closes it, though other files
// change meanwhile; half of it is neither published nor a problem.
func TestFileBeingWrittenCountsAsItWas(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/defaults.hcl": mode("local"), "dc1/web.hcl": "# nothing yet\n"})
	f.run(file.Options{})
	f.next()
	open, err := os.OpenFile(f.path("dc1/defaults.hcl"), os.O_WRONLY|os.O_TRUNC, 0)
	f.must(err)
	defer open.Close()
	_, err = open.WriteString("Kind = \"proxy-def")
	f.must(err)
	made, err := os.Create(f.path("dc1/new.hcl"))
	f.must(err)
	defer made.Close()
	_, err = made.WriteString("Kind = ")
	f.must(err)

	f.write("dc1/resolver.hcl", "Kind = \"service-resolver\"\nName = \"web\"\n")
	f.wantNext("+ config/service-resolver/web ")
	if got := f.source.Problems(); len(got) > 0 {
		t.Errorf("a file in the middle of being written is a problem: %v", got)
	}
	_, err = open.WriteString("aults\"\nMeshGateway { Mode = \"remote\" }\n")
	f.must(err)
	f.must(open.Close())
	f.wantNext("+ config/proxy-defaults/global remote")
	_, err = made.WriteString("\"service-defaults\"\nName = \"web\"\n")
	f.must(err)
	f.must(made.Close())
	f.wantNext("+ config/service-defaults/web ")
}

// A truncated file whose writer is still busy looks empty before the kernel
// says so; one that stays empty is believed.
func TestEmptiedFileIsBelievedLater(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		f.write("dc1/defaults.hcl", "")
		f.wantNext("- config/proxy-defaults/global")
	})
}

func TestRewritingAtSpeedNeverShowsHalf(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/defaults.hcl": mode("local")})
	f.run(file.Options{})
	f.next()
	for range 200 {
		f.write("dc1/defaults.hcl", mode("remote"))
		f.write("dc1/defaults.hcl", mode("local"))
	}
	f.write("dc1/resolver.hcl", "Kind = \"service-resolver\"\nName = \"web\"\n")
	for {
		got := lines(f.next())
		if slices.Contains(got, "- config/proxy-defaults/global") {
			t.Fatalf("a file that was being written was published empty: %v", got)
		}
		if slices.Contains(got, "+ config/service-resolver/web ") {
			return
		}
	}
}

func TestRestartPublishesNothing(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/web.hcl": service("web", "1"), "dc1/defaults.hcl": mode("local")})
	f.run(file.Options{TrustDomain: "td.consul"})
	first := f.next()
	again := newWatcherOf(t, f.catalog, f.log)
	f.write("dc1/defaults.hcl", mode("remote"))
	f.wantNext("+ config/proxy-defaults/global remote")
	again()
	before := first.Sequence + 1
	if state, err := f.log.State(t.Context(), "CATALOG_dc1"); err != nil || state.Last != before {
		t.Errorf("the log ends at %d (%v), want %d", state.Last, err, before)
	}
}

// newWatcherOf runs a second watcher of a catalog until its result is called.
func newWatcherOf(t *testing.T, catalog string, log bus.Log) (stop func()) {
	source, err := file.New(file.Options{Catalog: catalog, Datacenter: "DC1", TrustDomain: "td.consul"})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watcher.New(watcher.Config{Datacenter: "dc1", Source: source, Writer: bus.WriterConfig{Log: log, Owner: "again"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func TestKubernetesSwap(t *testing.T) {
	notifiers(t, map[string]string{
		"dc1/..2024/defaults.hcl": mode("local"),
		"dc1/..2025/defaults.hcl": mode("remote"),
	}, func(t *testing.T, f *fixture) {
		f.next()
		f.link("..2024", "dc1/..data")
		f.link("..data/defaults.hcl", "dc1/defaults.hcl")
		f.wantNext("+ config/proxy-defaults/global local")
		f.link("..2025", "dc1/..data_tmp")
		f.must(os.Rename(f.path("dc1/..data_tmp"), f.path("dc1/..data")))
		f.wantNext("+ config/proxy-defaults/global remote")
	})
}

// A whole catalog in one volume: the datacenter itself is a link.
func TestLinkedDatacenterIsFollowed(t *testing.T) {
	f := newFixture(t, map[string]string{
		".v1/dc1/defaults.hcl": mode("local"), ".v2/dc1/defaults.hcl": mode("remote"),
	})
	f.must(os.Remove(f.path("dc1")))
	f.link(".v1/dc1", "dc1")
	f.run(file.Options{})
	f.next()
	f.link(".v2/dc1", ".next")
	f.must(os.Rename(f.path(".next"), f.path("dc1")))
	f.wantNext("+ config/proxy-defaults/global remote")
	f.write(".v2/dc1/defaults.hcl", mode("none"))
	f.wantNext("+ config/proxy-defaults/global none")
}

func TestLinkedFileIsFollowed(t *testing.T) {
	notifiers(t, map[string]string{".shared/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		f.link("../.shared/defaults.hcl", "dc1/defaults.hcl")
		f.wantNext("+ config/proxy-defaults/global local")
		f.write(".shared/defaults.hcl", mode("remote"))
		f.wantNext("+ config/proxy-defaults/global remote")
	})
}

func TestLinkOutOfTheCatalogIsRefused(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		outside := filepath.Join(filepath.Dir(f.catalog), "outside.hcl")
		f.must(os.WriteFile(outside, []byte(mode("remote")), 0o644))
		f.link(outside, "dc1/linked.hcl")
		f.waitSaid("linked.hcl")
		p := f.source.Problems()
		if len(p) != 1 || p[0].File != "linked.hcl" || p[0].Severity != definition.SeverityError {
			t.Errorf("problems are %v, want one of the link", p)
		}
		f.must(os.Remove(f.path("dc1/linked.hcl")))
		f.waitSaid("no problems any more")
	})
}

func TestEditorsFilesDoNotCount(t *testing.T) {
	notifiers(t, map[string]string{"dc1/defaults.hcl": mode("local")}, func(t *testing.T, f *fixture) {
		f.next()
		for _, name := range []string{".defaults.hcl.swp", ".#defaults.hcl", "#defaults.hcl#", "#x.hcl", "~x.hcl", "defaults.hcl~", "4913", "README.md", ".hidden/x.hcl"} {
			f.write("dc1/"+name, "Kind = {{{ broken")
		}
		f.write("dc1/defaults.hcl", mode("remote"))
		f.wantNext("+ config/proxy-defaults/global remote")
		if got := f.source.Problems(); len(got) > 0 {
			t.Errorf("problems of files that do not count: %v", got)
		}
	})
}

func TestCatalogMovedAwayAndBack(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/defaults.hcl": mode("local")})
	f.run(file.Options{})
	f.next()
	f.must(os.Rename(f.catalog, f.catalog+".old"))
	f.waitLive(false)
	f.must(os.Rename(f.catalog+".old", f.catalog))
	f.waitLive(true)
	f.write("dc1/defaults.hcl", mode("remote"))
	f.wantNext("+ config/proxy-defaults/global remote")
}

// waitLive reads the source until it is seen or not. Reading is what the
// watcher does, and tells it.
func (f *fixture) waitLive(want bool) {
	f.t.Helper()
	if _, err := f.source.Read(f.t.Context(), file.Scope); (err == nil) != want {
		f.t.Fatalf("reading the catalog: %v", err)
	}
	if err := f.source.Live(); (err == nil) != want {
		f.t.Fatalf("the source's liveness: %v", err)
	}
}

func TestRootsArePublished(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/defaults.hcl": mode("local")})
	roots := &isthmusv1.CARoots{TrustDomain: "td.consul", Roots: []*isthmusv1.CARoot{{Id: "1", RootCertPem: "pem"}}}
	f.run(file.Options{TrustDomain: "td.consul", Roots: roots})
	first := f.next()
	var gotRoots *isthmusv1.CARoots
	var facts *isthmusv1.MeshFacts
	for _, c := range first.Changes {
		switch v := c.Value.(type) {
		case *isthmusv1.CARoots:
			gotRoots = v
		case *isthmusv1.MeshFacts:
			facts = v
		}
	}
	if diff := cmp.Diff(roots, gotRoots, protocmp.Transform()); diff != "" {
		t.Errorf("roots (-want +got):\n%s", diff)
	}
	if facts.GetTrustDomain() != "td.consul" || facts.GetDatacenter() != "dc1" {
		t.Errorf("mesh facts are %v", facts)
	}
	f.source.SetRoots(&isthmusv1.CARoots{TrustDomain: "td.consul", Roots: []*isthmusv1.CARoot{{Id: "2", RootCertPem: "pem"}}})
	if next := f.next(); len(next.Changes) != 1 || next.Changes[0].Key != isthmusv1.RootsKey() {
		t.Errorf("rotated roots came as %v", next.Changes)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, o := range []file.Options{{Catalog: "x"}, {Datacenter: "dc1"}} {
		if _, err := file.New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestReadSaysWhichDatacentersThereAre(t *testing.T) {
	f := newFixture(t, map[string]string{"dc2/x.hcl": mode("local")})
	s, err := file.New(file.Options{Catalog: f.catalog, Datacenter: "dc9"})
	f.must(err)
	_, err = s.ReadAll(t.Context())
	if err == nil || !strings.Contains(err.Error(), "dc1, dc2") || errors.Is(err, watcher.ErrUnusable) {
		t.Errorf("error %v, want one that names dc1 and dc2", err)
	}
	if _, err := s.Read(t.Context(), "other"); err == nil {
		t.Error("another scope was read")
	}
}

func (f *fixture) link(to, name string) {
	f.t.Helper()
	f.must(os.Symlink(to, f.path(name)))
}
