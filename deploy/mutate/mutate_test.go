package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every kind of change is made, where it is possible and nowhere else.
func TestMutants(t *testing.T) {
	const name = "testdata/operators.txtar"
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	source := archive.Files[0].Data
	list, err := mutants("source.go", source)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, m := range list {
		fmt.Fprintf(&got, "%d %s: %s\n%s", m.line, m.function, m.operator, m.diff(source))
	}
	if *update {
		archive.Files[1].Data = []byte(got.String())
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(archive.Files[1].Data), got.String()); diff != "" {
		t.Errorf("mutants (-want +got):\n%s", diff)
	}
}

func TestMutantsOfNoGo(t *testing.T) {
	if _, err := mutants("source.go", []byte("package")); err == nil {
		t.Error("a file that is not Go was mutated")
	}
}

// tiny runs the tool on the package in testdata.
func tiny(t *testing.T, entries string) (output string, ok bool, err error) {
	t.Helper()
	parsed, err := parseEquivalents("list", entries)
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	const folder = "deploy/mutate/testdata/tiny"
	var out strings.Builder
	ok, err = campaign{
		root: root, targets: []target{{folder + "/tiny.go", []string{"./" + folder}}},
		equivalents: parsed, parallel: 2, out: &out,
	}.run(t.Context())
	return out.String(), ok, err
}

const equivalentOfTiny = `
deploy/mutate/testdata/tiny/tiny.go Same
- for i := 0; i < 0; i++ {
+ for i := 1; i < 0; i++ {
= the loop never runs
`

// What tests watch is killed; what they neglect survives and is shown; what was
// reviewed is not tried; and a reviewed entry without a mutant is said aloud.
func TestCampaign(t *testing.T) {
	output, ok, err := tiny(t, equivalentOfTiny+`
deploy/mutate/testdata/tiny/tiny.go Gone
- a
+ b
= it was here once
`)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		t.Error("survivors were not reported")
	}
	for _, want := range []string{
		"SURVIVED deploy/mutate/testdata/tiny/tiny.go:12 Neglected: condition always true\n- if n < 5 {\n+ if (n < 5) || true {\n",
		"NO SUCH MUTANT any more; remove it from the list of equivalents:\ndeploy/mutate/testdata/tiny/tiny.go Gone\n",
		" 1 equivalent by review",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("missing %q", want)
		}
	}
	for _, unwanted := range []string{"Watched", "i := 1", "condition always false"} {
		if strings.Contains(output, unwanted) {
			t.Errorf("unwanted %q", unwanted)
		}
	}
	if t.Failed() {
		t.Log(output)
	}
}

// Tests that fail by themselves would kill everything, and prove nothing.
func TestBaselineMustPass(t *testing.T) {
	t.Setenv("GOFLAGS", "-tags=broken")
	if _, _, err := tiny(t, ""); !errors.Is(err, errTests) {
		t.Errorf("error %v; want %v", err, errTests)
	}
}

func TestEquivalentsMustHaveReasons(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"no reason", "a.go f\n- x\n+ y\n", "list:3: the last entry has no line"},
		{"no reason before the next", "a.go f\n- x\n+ y\n\nb.go f\n", "list:4: the entry above has no line"},
		{"an empty reason", "a.go f\n- x\n=\n", "list:3: a reason needs words"},
		{"a reason for nothing", "= because\n", "list:1: a reason needs words"},
		{"twice", "a.go f\n- x\n= r\n\na.go f\n- x\n= s\n", "list:7: this entry stands twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parseEquivalents("list", c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error %v; want %s", err, c.want)
			}
		})
	}
}

// The committed list can be read, and every target is there.
func TestOwnLists(t *testing.T) {
	if _, err := parseEquivalents("equivalent.txt", reviewed); err != nil {
		t.Error(err)
	}
	for _, target := range targets {
		if _, err := os.Stat(filepath.Join("../..", target.file)); err != nil {
			t.Errorf("targets.go: %v", err)
		}
	}
}
