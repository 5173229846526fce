package bootstrap_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// golden calls test with each file of testdata: what an Envoy starts with, and what it
// is made of.
func golden(t *testing.T, test func(t *testing.T, file string, archive *txtar.Archive)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			test(t, file, archive)
		})
	}
}

func part(archive *txtar.Archive, name string) *txtar.File {
	return &archive.Files[slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == name })]
}

// ISTHMUS_UPDATE=1 writes them anew.
func TestGolden(t *testing.T) {
	golden(t, func(t *testing.T, file string, archive *txtar.Archive) {
		var c bootstrap.Config
		if err := json.Unmarshal(part(archive, "config.json").Data, &c); err != nil {
			t.Fatal(err)
		}
		got, err := bootstrap.Render(c)
		if err != nil {
			t.Fatal(err)
		}
		want := part(archive, "bootstrap.json")
		if os.Getenv("ISTHMUS_UPDATE") != "" {
			want.Data = got
			if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != string(want.Data) {
			t.Errorf("got\n%s", got)
		}
	})
}

// A real Envoy finds nothing wrong with any of them.
func TestEnvoyTakesTheGolden(t *testing.T) {
	envoy := envoytest.Need(t)
	golden(t, func(t *testing.T, _ string, archive *txtar.Archive) {
		path := filepath.Join(t.TempDir(), "bootstrap.json")
		if err := os.WriteFile(path, part(archive, "bootstrap.json").Data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", path, "--log-level", "warning").CombinedOutput()
		warnings := strings.Count(string(out), "[warning]")
		if strings.Contains(string(out), "deprecated option 'envoy.config.bootstrap.v3.Bootstrap.tracing'") {
			warnings-- // Consul's users have it there, so Envoy may still be given it.
		}
		if err != nil || warnings > 0 {
			t.Errorf("%v:\n%s", err, out)
		}
	})
}
