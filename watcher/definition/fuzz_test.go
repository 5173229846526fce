package definition_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// fuzz feeds one front end with the seed's examples, the golden files and the
// hostile ones, and demands what must hold for every text.
func fuzz(f *testing.F, extension string) {
	examples, err := filepath.Glob(filepath.Join("testdata", "seed", "*"+extension))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range examples {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	archives, err := filepath.Glob(filepath.Join("testdata", "golden", "*.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, extension) {
				f.Add(file.Data)
			}
		}
	}
	for name, file := range hostile() {
		if strings.HasSuffix(name, extension) && len(file.Data) < 4<<10 {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []definition.File{{Name: "a" + extension, Data: data}}
		catalog := definition.Parse(files, datacenter)
		checkRules(t, catalog)
		lines := lineCount(data)
		for _, p := range catalog.Problems {
			if p.Line > lines {
				t.Errorf("line %d of %d: %s", p.Line, lines, p)
			}
		}
		again := definition.Parse(files, datacenter)
		if a, b := model(catalog)+problems(catalog), model(again)+problems(again); a != b {
			t.Errorf("first\n%s\nthen\n%s", a, b)
		}
	})
}

// lineCount counts lines as the most generous of the formats does: YAML also
// breaks them at a lone carriage return and at Unicode's separators.
func lineCount(data []byte) int {
	breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
	return 1 + strings.Count(breaks.Replace(string(data)), "\n")
}

func FuzzHCL(f *testing.F) { fuzz(f, ".hcl") }

func FuzzJSON(f *testing.F) { fuzz(f, ".json") }

func FuzzYAML(f *testing.F) { fuzz(f, ".yaml") }
