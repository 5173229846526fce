package devagent_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// The variable goes before the repository around us, which goes before PATH.
func TestFind(t *testing.T) {
	top, elsewhere := t.TempDir(), t.TempDir()
	program := func(path ...string) string {
		t.Helper()
		file := filepath.Join(path...)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		return file
	}
	named, onPath := program(elsewhere, "named"), program(elsewhere, "bin", "consul")
	built := program(top, "deploy", ".tools", "consul", "consul")
	inside := filepath.Dir(program(top, "deploy", "tools", "here"))
	for file, module := range map[string]string{
		filepath.Join(top, "go.mod"):    "module github.com/isthmus-mesh/isthmus\n\ngo 1.26.0\n",
		filepath.Join(inside, "go.mod"): "module github.com/isthmus-mesh/isthmus/deploy/tools\n",
	} {
		if err := os.WriteFile(file, []byte(module), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		variable, dir, path string
		want                string
	}{
		"by the variable":             {named, inside, filepath.Dir(onPath), named},
		"by a variable that is wrong": {filepath.Join(elsewhere, "none"), inside, filepath.Dir(onPath), ""},
		"in the repository":           {"", inside, filepath.Dir(onPath), built},
		"in PATH":                     {"", elsewhere, filepath.Dir(onPath), onPath},
		"nowhere":                     {"", elsewhere, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ISTHMUS_CONSUL_BINARY", test.variable)
			t.Setenv("PATH", test.path)
			t.Chdir(test.dir)
			got, err := devagent.Find()
			if got != test.want {
				t.Errorf("found %q, not %q", got, test.want)
			}
			if missing := errors.Is(err, devagent.ErrMissing); missing != (test.want == "") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
