package history_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/history"
)

// A catalog that nobody writes any more is said to be perhaps old, in the answers that
// it is a basis of; one that is at rest is not.
func TestJudgeAge(t *testing.T) {
	w := newWorld(t, 1000)
	w.write("dc1", map[string]string{"proxy-defaults.hcl": `Kind = "proxy-defaults"
Name = "global"`})
	answers := func() []history.Answer {
		return []history.Answer{
			{Basis: map[string]history.AnswerPosition{"CATALOG_dc1": {}}},
			{Basis: map[string]history.AnswerPosition{"CATALOG_dc9": {}}}, // There is none: it is not judged.
		}
	}
	found := answers()
	history.JudgeAge(t.Context(), w.log, found)
	if len(found[0].Stale) > 0 || len(found[1].Stale) > 0 {
		t.Errorf("with its writer: %+v", found)
	}
	w.stop()
	found = answers()
	history.JudgeAge(t.Context(), w.log, found)
	if len(found[0].Stale) != 1 || len(found[1].Stale) > 0 {
		t.Fatalf("without its writer: %+v", found)
	}
	if s := found[0].Stale[0]; s.Last.IsZero() || !strings.HasPrefix(s.String(), "CATALOG_dc1 may be old: nobody writes it now; its last message is of ") {
		t.Errorf("%s, %+v", s, s)
	}
}
