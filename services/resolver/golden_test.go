package resolver_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestRoutes compares the routes of dc1 with the text beside the catalogs they
// are made from. Each file says at its top what it shows.
func TestRoutes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { compareGolden(t, file) })
	}
}

func compareGolden(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := routesText(readWorld(archive).machine(t))
	last := &archive.Files[len(archive.Files)-1]
	if *update {
		if last.Name != "routes" {
			archive.Files = append(archive.Files, txtar.File{Name: "routes"})
			last = &archive.Files[len(archive.Files)-1]
		}
		last.Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if last.Name != "routes" {
		t.Fatalf("%s has no routes: run with -update", file)
	}
	if diff := cmp.Diff(string(last.Data), got); diff != "" {
		t.Errorf("%s (-golden +got):\n%s", file, diff)
	}
}
