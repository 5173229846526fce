package definition_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// hostile are files that nobody writes in good faith. Each is refused with one
// readable problem; go test's own timeout is the only clock here.
func hostile() map[string]definition.File {
	repeat := func(text string, bytes int) string { return strings.Repeat(text, bytes/len(text)) }
	const big = 2 << 20
	const brackets = 200_000
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	files := map[string]string{
		"alias-bomb.yaml":          bomb,
		"alias-cycle.yaml":         "service: &s\n  name: web\n  connect: *s\n",
		"merge-bomb.yaml":          "a: &a {b: 1}\nc:\n" + repeat("- <<: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n", big-100),
		"brackets.hcl":             "a = " + strings.Repeat("[", brackets),
		"braces.hcl":               strings.Repeat("a {", brackets),
		"labels.hcl":               repeat("a ", big-10) + "{}",
		"quoted-labels.hcl":        repeat(`"a" `, big-10) + "{}",
		"heredocs.hcl":             repeat("a=<<A\nA\n", big),
		"open-heredoc.hcl":         "a = <<" + repeat("A", big-100) + "\n",
		"open-string.hcl":          `a = "` + repeat("${", big-100),
		"open-comment.hcl":         "/*" + repeat("*", big-100),
		"comments.hcl":             repeat("#\n", big-10) + "a = [",
		"keys.hcl":                 repeat("a=1\n", big),
		"blocks.hcl":               repeat("service {}\n", big),
		"huge-number.hcl":          "service { port = " + repeat("9", 100_000) + " }",
		"huge-exponent.hcl":        "service { port = 1e999999999 }",
		"bad-escape.hcl":           `kind = "\400"`,
		"ends-after-assign.hcl":    "kind = \"mesh\"\nname =",
		"truncated.hcl":            "service {\n  name = \"web\"\n",
		"brackets.json":            strings.Repeat("[", brackets),
		"objects.json":             strings.Repeat(`{"a":`, brackets),
		"values.json":              "[" + repeat("1,", big-10) + "1]",
		"keys.json":                "{" + repeat(`"a":1,`, big-20) + `"a":1}`,
		"truncated.json":           `{"service": {"name": "web"`,
		"empty.json":               "",
		"two-values.json":          "{} {}",
		"huge-number.json":         `{"service":{"port":` + repeat("9", 100_000) + "}}",
		"lonely-text.json":         `"kind"`,
		"brackets.yaml":            strings.Repeat("[", brackets),
		"braces.yaml":              strings.Repeat("{a: ", brackets),
		"dashes.yaml":              strings.Repeat("- ", brackets) + "x",
		"questions.yaml":           strings.Repeat("? ", brackets) + "x",
		"colons.yaml":              repeat("a:\n", big),
		"keys.yaml":                repeat("a: 1\n", big),
		"comments-and-keys.yaml":   repeat("#\na: 1\n", big),
		"documents.yaml":           repeat("---\nx\n", big),
		"quoted-brackets.yaml":     "a: [\"]\", " + repeat("[\"]\", ", 400_000),
		"plain-brackets.yaml":      "a: x " + strings.Repeat("[", brackets) + "\n",
		"tabs.yaml":                "a:\n\t- b\n",
		"odd-tag.yaml":             "kind: !!python/object mesh\n",
		"huge-number.yaml":         "service: {port: 1" + repeat("0", 100_000) + "}",
		"not-a-number.yaml":        "service: {port: .nan}",
		"nul.hcl":                  "kind = \"mesh\"\n\x00",
		"nul.json":                 "{\"kind\": \"me\x00sh\"}",
		"nul.yaml":                 "kind: mesh\n\x00",
		"broken-utf8.hcl":          "kind = \"\xff\xfe\"",
		"broken-utf8.json":         "{\"kind\": \"\xc3\x28\"}",
		"broken-utf8.yaml":         "kind: mesh\nname: \xed\xa0\x80\n",
		"too-big.yaml":             repeat("# comment\n", big+100),
		"filter.hcl":               "kind = \"service-resolver\"\nname = \"a\"\nsubsets \"b\" { filter = \"" + strings.Repeat("(", 2000) + "a == b" + strings.Repeat(")", 2000) + "\" }",
		"not-filter.hcl":           "kind = \"service-resolver\"\nname = \"a\"\nsubsets \"b\" { filter = \"" + strings.Repeat("not ", 900) + "a == b and\" }",
		"expressions.yaml":         "kind: service-router\nname: a\nroutes:\n" + repeat("- match: {http: {path_regex: \"x{0,999}\"}}\n", big-200) + "- match: {http: {path_regex: \"(\"}}\n",
		"filters.yaml":             "kind: service-resolver\nname: a\nsubsets:\n" + numbered("  v%d: {filter: \"a == b and ("+strings.Repeat("(", 400)+"\"}\n", 4000),
		"many-filters.yaml":        "kind: service-resolver\nname: a\nsubsets:\n" + numbered("  v%d: {filter: a == %[1]d}\n", 60_000),
		"wrong-everywhere.hcl":     "service {\n" + numbered("xport%d = 1\n", 100_000) + "}",
		"no-such-format.toml":      "kind = \"mesh\"",
		"json-in-hcl.hcl":          `{"kind": "mesh"}`,
		"unicode-replacement.hcl":  "kind = \"\uE123\"",
		"one-line-of-nothing.json": "   ",
	}
	deep := ""
	for i := range 1500 {
		deep += strings.Repeat(" ", i) + "a:\n"
	}
	files["indents.yaml"] = deep
	out := map[string]definition.File{}
	for name, data := range files {
		out[name] = definition.File{Name: name, Data: []byte(data)}
	}
	return out
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// maxCost bounds the bytes that reading one file allocates. It stands for the
// second that a hostile file may take, and is the same on every machine.
const maxCost = 1 << 30

func TestHostileFilesAreRefused(t *testing.T) {
	for name, file := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			catalog := definition.Parse([]definition.File{file}, definition.Options{Datacenter: "dc1"})
			runtime.ReadMemStats(&after)
			if cost := after.TotalAlloc - before.TotalAlloc; cost > maxCost {
				t.Errorf("reading it allocates %d MiB", cost>>20)
			}
			if !catalog.HasErrors() {
				t.Fatalf("accepted as %d values", len(catalog.Values))
			}
			lines := 1 + strings.Count(string(file.Data), "\n")
			for _, p := range catalog.Problems {
				if p.Line < 1 || p.Line > lines {
					t.Errorf("line %d is not in the file: %s", p.Line, p)
				}
				if len(p.Problem) > 400 || len(p.Key) > 400 || p.Fix == "" {
					t.Errorf("not readable: %.500s", p)
				}
			}
			if len(catalog.Problems) > 1001 {
				t.Errorf("%d problems", len(catalog.Problems))
			}
		})
	}
}
