package check_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/check"
)

var update = flag.Bool("update", false, "write the page of the codes anew")

const page = "../../deploy/docs/checks.md"

// The page's table is that of the code; -update writes it.
func TestPage(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "| code | passes when | proven by | else |\n|---|---|---|---|\n", "\n\n"
	before, rest, ok := strings.Cut(string(data), begin)
	if !ok {
		t.Fatalf("%s has no table that begins with %q", page, begin)
	}
	table, after, _ := strings.Cut(rest, end)
	var want strings.Builder
	for _, e := range check.Codes() {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", e.Code, e.Means, e.Proven, e.Fix)
	}
	text := strings.TrimSuffix(want.String(), "\n")
	if table == text {
		return
	}
	if !*update {
		t.Fatalf("the table of %s is not that of codes.go: go test ./services/check -run TestPage -update", page)
	}
	if err := os.WriteFile(page, []byte(before+begin+text+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Codes are stable words, each explained once.
func TestCodes(t *testing.T) {
	seen := map[check.Code]bool{}
	for _, e := range check.Codes() {
		if seen[e.Code] || !regexp.MustCompile(`^[A-Z][A-Z_]*[A-Z]$`).MatchString(string(e.Code)) {
			t.Errorf("code %q", e.Code)
		}
		seen[e.Code] = true
		for _, text := range []string{e.Means, e.Proven, e.Fix} {
			if text == "" || strings.ContainsAny(text, "|\n") {
				t.Errorf("%s: %q", e.Code, text)
			}
		}
	}
}
