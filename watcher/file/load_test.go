package file_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

var twoDatacenters = map[string]string{
	"dc1/defaults.hcl":     mode("local"),
	"dc1/node-1/agent.hcl": "node_name = \"node-1\"\nadvertise_addr = \"10.0.0.1\"\n",
	"dc1/node-1/web.hcl":   service("web", "1"),
	"dc2/defaults.yaml":    "Kind: proxy-defaults\nName: global\n",
	"README.md":            "not a definition",
}

func TestLoadCatalog(t *testing.T) {
	f := newFixture(t, twoDatacenters)
	got, err := file.Load(f.catalog, file.LoadOptions{TrustDomain: "td.consul", Roots: &isthmusv1.CARoots{TrustDomain: "td.consul"}})
	f.must(err)
	if got.Layout != file.LayoutCatalog || got.HasErrors() || len(got.Problems()) > 0 {
		t.Fatalf("layout %s, problems %v", got.Layout, got.Problems())
	}
	for dc, want := range map[string][]string{
		"DC1": {"config/proxy-defaults/global", "instance/node-1/web", "mesh-facts", "node/node-1", "roots"},
		"dc2": {"config/proxy-defaults/global", "mesh-facts", "roots"},
	} {
		d, ok := got.Datacenter(dc)
		if !ok {
			t.Fatalf("no datacenter %s", dc)
		}
		if diff := cmp.Diff(want, keys(d)); diff != "" {
			t.Errorf("%s: keys (-want +got):\n%s", dc, diff)
		}
		for _, v := range d.Values {
			if facts, ok := v.Value.(*isthmusv1.MeshFacts); ok {
				if diff := cmp.Diff([]string{"dc1", "dc2"}, facts.GetKnownDatacenters()); diff != "" || facts.GetTrustDomain() != "td.consul" {
					t.Errorf("%s: mesh facts %v: %s", dc, facts, diff)
				}
			}
			if v.Key == isthmusv1.InstanceKey("", "node-1", "", "web") && v.Source.GetFile() != "node-1/web.hcl" {
				t.Errorf("the instance's file is %q, want it relative to the datacenter's directory", v.Source.GetFile())
			}
		}
	}
	if _, ok := got.Datacenter("dc3"); ok {
		t.Error("there is a dc3")
	}
}

func keys(d file.Datacenter) []string {
	var out []string
	for _, v := range d.Values {
		out = append(out, v.Key.String())
	}
	slices.Sort(out)
	return out
}

func TestLoadDatacenterDirectory(t *testing.T) {
	f := newFixture(t, twoDatacenters)
	got, err := file.Load(f.path("dc1"), file.LoadOptions{})
	f.must(err)
	if got.Layout != file.LayoutDatacenter || len(got.Datacenters) != 1 || got.Datacenters[0].Name != "dc1" {
		t.Fatalf("taken for a %s of %v", got.Layout, got.Datacenters)
	}
	if want := []string{"config/proxy-defaults/global", "instance/node-1/web", "mesh-facts", "node/node-1"}; !slices.Equal(keys(got.Datacenters[0]), want) {
		t.Errorf("keys %v, want %v", keys(got.Datacenters[0]), want)
	}
}

// A datacenter's directory may hold nothing but its nodes' directories: an
// agent's file tells it from a catalog.
func TestLoadDatacenterOfDirectories(t *testing.T) {
	agent := func(dc, node string) string {
		return "Datacenter = \"" + dc + "\"\nnode_name = \"" + node + "\"\nadvertise_addr = \"10.0.0.1\"\n"
	}
	f := newFixture(t, map[string]string{
		"DC9/n1/agent.hcl": agent("dc9", "n1"), "DC9/n1/mesh.hcl": "kind = \"mesh\"", "DC9/n2/agent.hcl": "node_name = \"n2\"", "DC9/n2/mesh.hcl": "kind = \"mesh\"",
		"both/dc1/agent.hcl": agent("dc1", "n1"), "both/dc2/agent.hcl": agent("dc2", "n1"), "both/both/agent.hcl": agent("both", "n1"),
	})
	got, err := file.Load(f.path("DC9"), file.LoadOptions{})
	f.must(err)
	if got.Layout != file.LayoutDatacenter || got.Datacenters[0].Name != "dc9" {
		t.Errorf("taken for a %s of %v", got.Layout, got.Datacenters)
	}
	if p := got.Problems(); len(p) != 1 || p[0].File != f.path("DC9/n2/mesh.hcl") || !strings.Contains(p[0].Problem, "already defined") {
		t.Errorf("problems %v, want the entry that two directories define", p)
	}
	if got, err = file.Load(f.path("both"), file.LoadOptions{}); err != nil || got.Layout != file.LayoutCatalog || got.HasErrors() {
		t.Errorf("a catalog of three datacenters, one of its own name: %v, %v", got, err)
	}
}

// A link may lead as far from a datacenter's directory as it may in its catalog.
func TestLoadDatacenterWithLinksIntoTheCatalog(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/defaults.hcl": mode("local"), "shared/web.hcl": service("web", "1"), "shared/bad.hcl": "x = 1\n"})
	f.link("../shared/web.hcl", "dc1/web.hcl")
	f.link("../shared", "dc1/all")
	f.link("../../outside.hcl", "dc1/out.hcl")
	f.link("catalog/dc1", "../elsewhere")
	for _, name := range []string{f.path("dc1"), filepath.Join(filepath.Dir(f.catalog), "elsewhere")} {
		got, err := file.Load(name, file.LoadOptions{})
		f.must(err)
		var files []string
		for _, p := range got.Problems() {
			files = append(files, p.File)
		}
		if want := []string{filepath.Join(name, "all/bad.hcl"), filepath.Join(name, "out.hcl"), filepath.Join(name, "web.hcl")}; !slices.Equal(files, want) {
			t.Errorf("problems of %v, want %v", files, want)
		}
	}
}

func TestLoadFile(t *testing.T) {
	f := newFixture(t, twoDatacenters)
	got, err := file.Load(f.path("dc1/node-1/web.hcl"), file.LoadOptions{})
	f.must(err)
	if got.Layout != file.LayoutFile || got.HasErrors() || !slices.Contains(keys(got.Datacenters[0]), "instance/localhost/web") && len(got.Datacenters[0].Values) < 2 {
		t.Errorf("taken for a %s with %v and problems %v", got.Layout, keys(got.Datacenters[0]), got.Problems())
	}
}

// Every problem of every datacenter at once, each at a path that can be opened.
func TestLoadStatesAllProblems(t *testing.T) {
	f := newFixture(t, map[string]string{
		"dc1/a.hcl": mode("sideways"), "dc1/b/b.yaml": "Kind: service-defaults\nName: [", "dc2/c.json": `{"Kind": "nonsense"}`,
	})
	got, err := file.Load(f.catalog, file.LoadOptions{})
	f.must(err)
	files := map[string]bool{}
	for _, p := range got.Problems() {
		files[p.File] = true
		if p.Line < 1 || p.Fix == "" || p.Problem == "" || p.Severity != definition.SeverityError {
			t.Errorf("problem without a place or a fix: %v", p)
		}
	}
	for _, name := range []string{"dc1/a.hcl", "dc1/b/b.yaml", "dc2/c.json"} {
		if !files[f.path(name)] {
			t.Errorf("no problem of %s among %v", f.path(name), got.Problems())
		}
	}
	if !got.HasErrors() {
		t.Error("a catalog with problems has no errors")
	}
}

func TestLoadOfAFileWithProblemsNamesIt(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/a.hcl": mode("sideways")})
	t.Chdir(f.path("dc1"))
	got, err := file.Load("a.hcl", file.LoadOptions{})
	f.must(err)
	if p := got.Problems(); len(p) != 1 || p[0].File != "a.hcl" || p[0].Line != 3 {
		t.Errorf("problems %v, want one at a.hcl:3", p)
	}
}

func TestLoadRefusesWhatItCannotRead(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/README.md": "", "empty/dc1/x": ""})
	f.link(os.DevNull, "device.hcl")
	for name, want := range map[string]string{
		"device.hcl":    "not a regular file",
		"missing":       "no such file",
		"dc1/README.md": "extension",
		"dc1":           "neither a definition",
	} {
		if _, err := file.Load(f.path(name), file.LoadOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
	same := newFixture(t, map[string]string{"DC1/x.hcl": ""})
	if _, err := file.Load(same.catalog, file.LoadOptions{}); err == nil || !strings.Contains(err.Error(), "one datacenter") {
		t.Errorf("two directories of one name: error %v", err)
	}
}

func TestLoadEmbeddedCatalog(t *testing.T) {
	fsys := fstest.MapFS{}
	for name, text := range twoDatacenters {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: fs.FileMode(0o644)}
	}
	got, err := file.LoadCatalog(fsys, "embedded", file.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Datacenters) != 2 || got.HasErrors() {
		t.Errorf("datacenters %v, problems %v", got.Datacenters, got.Problems())
	}
}

func TestLinksInCirclesAreProblems(t *testing.T) {
	f := newFixture(t, map[string]string{"dc1/defaults.hcl": mode("local"), "dc1/a/x.txt": ""})
	f.link("..", "dc1/a/up")
	f.link("nowhere.hcl", "dc1/dangling.hcl")
	got, err := file.Load(f.catalog, file.LoadOptions{})
	f.must(err)
	var files []string
	for _, p := range got.Problems() {
		files = append(files, p.File)
	}
	if want := []string{filepath.Join(f.catalog, "dc1/a/up"), filepath.Join(f.catalog, "dc1/dangling.hcl")}; !slices.Equal(files, want) {
		t.Errorf("problems of %v, want %v", files, want)
	}
}
