package oracle_test

import (
	"os"
	"strings"
	"testing"
)

// The intended differences that routes show, by their names in
// deploy/docs/differences.md.
const (
	invalidMode = "An invalid mode"
)

// differences are all of them: each must be met by a case.
var differences = []string{invalidMode}

// checkDifferences: what differs on purpose is documented, and still differs.
func (w *world) checkDifferences(t *testing.T) {
	text, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range differences {
		if !strings.Contains(string(text), "| **"+name+"** |") {
			t.Errorf("deploy/docs/differences.md has no row %q", name)
		}
		if _, ok := w.met.Load(name); !ok {
			t.Errorf("no case has met the intended difference %q", name)
		}
	}
}
