package definition_test

import (
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// nested is a proxy-defaults entry whose config is that deep below the root.
func nested(extension string, depth int) string {
	inner := depth - 1
	switch extension {
	case ".hcl":
		return "kind = \"proxy-defaults\"\nconfig {\n" + strings.Repeat("a {\n", inner-1) + "b = 1\n" + strings.Repeat("}\n", inner-1) + "}\n"
	case ".json":
		return `{"kind": "proxy-defaults", "config": ` + strings.Repeat(`{"a": `, inner) + "1" + strings.Repeat("}", inner) + "}"
	case ".yml":
		return "kind: proxy-defaults\nconfig: " + strings.Repeat("{a: ", inner) + "1" + strings.Repeat("}", inner) + "\n"
	}
	var b strings.Builder
	b.WriteString("kind: proxy-defaults\nconfig:\n")
	for i := range inner - 1 {
		b.WriteString(strings.Repeat(" ", i+1) + "a:\n")
	}
	b.WriteString(strings.Repeat(" ", inner) + "b: 1\n")
	return b.String()
}

func TestDepth(t *testing.T) {
	for _, extension := range []string{".hcl", ".json", ".yaml", ".yml"} {
		for depth, accepted := range map[int]bool{5: true, 90: true, 99: true, 105: false, 1500: false} {
			catalog := definition.Parse([]definition.File{{Name: "a" + extension, Data: []byte(nested(extension, depth))}}, datacenter)
			if catalog.HasErrors() == accepted {
				t.Errorf("%s, %d deep: %s", extension, depth, problems(catalog))
			}
			if !accepted && !strings.Contains(problems(catalog), "nested more than 100 deep") {
				t.Errorf("%s, %d deep: %s", extension, depth, problems(catalog))
			}
		}
	}
}

// Brackets and quotes that are text do not count as nesting.
func TestBracketsInTextsDoNotNest(t *testing.T) {
	open := strings.Repeat("[{(", 200)
	for name, text := range map[string]string{
		"a.hcl":        "kind = \"mesh\"\nmeta { a = \"" + strings.Repeat("[", 200) + "\" } # " + open + "\n/* " + open + " */\n",
		"heredoc.hcl":  "kind = \"proxy-defaults\"\nconfig { x = <<EOT\n" + open + "\nEOT\n}\n",
		"a.json":       `{"kind": "mesh", "meta": {"a": "` + strings.Repeat("[", 200) + `"}}`,
		"comment.yaml": "kind: mesh # " + open + "\n",
		"quoted.yaml":  "kind: mesh\nmeta: {a: \"" + strings.Repeat("[", 200) + "\", b: 'it''s " + strings.Repeat("{", 200) + "'}\n",
		"plain.yaml":   "kind: mesh\nmeta:\n  a: x" + strings.Repeat("[", 200) + "\n",
		"bom.yaml":     "\ufeffkind: mesh\n",
		"crlf.hcl":     "kind = \"mesh\"\r\nmeta {\r\n a = \"b\"\r\n}\r\n",
		"crlf.yaml":    "kind: mesh\r\nmeta:\r\n  a: b\r\n",
	} {
		catalog := definition.Parse([]definition.File{{Name: name, Data: []byte(text)}}, datacenter)
		if len(catalog.Problems) > 0 || len(catalog.Values) != 2 {
			t.Errorf("%s: %d values, %s", name, len(catalog.Values), problems(catalog))
		}
	}
}

// A file without definitions is not a problem, but an empty JSON file is none.
func TestEmptyFiles(t *testing.T) {
	for name, text := range map[string]string{"a.hcl": "# nothing\n", "a.yaml": "---\n---\n", "b.yaml": "", "a.json": "[]"} {
		catalog := definition.Parse([]definition.File{{Name: name, Data: []byte(text)}}, datacenter)
		if len(catalog.Problems) > 0 || len(catalog.Values) != 1 {
			t.Errorf("%s: %s%s", name, model(catalog), problems(catalog))
		}
	}
}

// Without options the only node still has a name.
func TestNodeWithoutDatacenter(t *testing.T) {
	catalog := definition.Parse([]definition.File{{Name: "a.hcl", Data: []byte(`service { name = "web" }`)}}, definition.Options{})
	for _, v := range catalog.Values {
		if n, ok := v.Message.(*isthmusv1.Node); ok && n.GetName() == "local" && n.GetAddress() == "127.0.0.1" {
			return
		}
	}
	t.Errorf("no node:\n%s", model(catalog))
}

func TestReadable(t *testing.T) {
	for name, want := range map[string]bool{
		"a.hcl": true, "b/c.json": true, "d.yaml": true, "e.yml": true,
		"README.md": false, "a.hcl~": false, "hcl": false, ".hcl": true, "a.HCL": true, "a.Yml": true,
	} {
		if definition.Readable(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}
