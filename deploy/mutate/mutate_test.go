package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asCommand, when set, makes the test program the command itself.
const asCommand = "ISTHMUS_MUTATE_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The command ends with 1 when a mutant survives, and only then.
func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		file string
		code int
		says []string
	}{
		{"tiny.go", 1, []string{"SURVIVED " + tinyFolder + "/tiny.go:", "Neglected: condition always true\n"}},
		{"watched.go", 0, []string{" mutants, ", " 0 survived"}},
		{"missing.go", 1, []string{"missing.go"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), os.Args[0], tinyFolder+"/"+test.file)
			command.Env = append(os.Environ(), asCommand+"=1")
			output, err := command.CombinedOutput()
			if command.ProcessState == nil {
				t.Fatal(err)
			}
			if code := command.ProcessState.ExitCode(); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.says {
				if !strings.Contains(string(output), want) {
					t.Errorf("missing %q", want)
				}
			}
			if t.Failed() {
				t.Logf("%s", output)
			}
		})
	}
}

// Every kind of change is made, where it is possible and nowhere else.
func TestMutants(t *testing.T) {
	const name = "testdata/operators.txtar"
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	source := archive.Files[0].Data
	_, list, err := mutants("source.go", source)
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
	if _, _, err := mutants("source.go", []byte("package")); err == nil {
		t.Error("a file that is not Go was mutated")
	}
}

// tinyFolder is a package to try the tool on.
const tinyFolder = "deploy/mutate/testdata/tiny"

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
	var out strings.Builder
	ok, err = campaign{
		root: root, files: []string{tinyFolder + "/tiny.go"},
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
		"SURVIVED deploy/mutate/testdata/tiny/tiny.go:7 Neglected: condition always true\n- if n < 5 {\n+ if (n < 5) || true {\n",
		"NO SUCH MUTANT any more; remove it from the list of equivalents:\ndeploy/mutate/testdata/tiny/tiny.go Gone\n",
		" 1 equivalent by review",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("missing %q", want)
		}
	}
	for _, unwanted := range []string{"i := 1", "Neglected: condition always false", "Bounded", "Add", "bound"} {
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

// Of mutants that look alike each has an entry of its own.
func TestMutantsThatLookAlike(t *testing.T) {
	source := []byte("package p\n\nfunc f(a, b int) bool {\n\tif a > b {\n\t\ta = 7\n\t}\n\tif a > b {\n\t\ta = 8\n\t}\n\treturn a > 9\n}\n")
	_, list, err := mutants("a.go", source)
	if err != nil {
		t.Fatal(err)
	}
	keys := keysOf(list, source)
	for _, want := range []string{
		"a.go f #1\n- if a > b {\n+ if a >= b {\n", "a.go f #2\n- if a > b {\n+ if a >= b {\n", "a.go f\n- a = 8\n+ a = 9\n",
	} {
		if !slices.Contains(keys, want) {
			t.Errorf("no mutant is\n%s", want)
		}
	}
	slices.Sort(keys)
	if len(slices.Compact(keys)) != len(list) {
		t.Errorf("%d mutants have %d keys", len(list), len(slices.Compact(keys)))
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
		if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
			t.Errorf("targets.go: %v", err)
		}
	}
}
