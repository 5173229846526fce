package file

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// quiet is a notifier that tells nothing: the kernel shows a truncation before
// it tells of it.
type quiet struct{}

func (quiet) begin()                   {}
func (quiet) watch(string) error       { return nil }
func (quiet) settle()                  {}
func (quiet) writing(string) bool      { return false }
func (quiet) changes() <-chan struct{} { return nil }
func (quiet) close()                   {}

// A writer at work truncates again and again. Two readings that each meet
// another truncation have not seen one file that stays empty, however long
// there is between them.
func TestAnotherTruncationIsNotTheSameEmptiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Source{notifier: quiet{}, last: map[string][]byte{"a.hcl": []byte("before")}, emptied: map[string]emptiness{}}
		read := func(truncated time.Time) string {
			files := s.settled(&tree{
				files:    []definition.File{{Name: "a.hcl"}},
				modified: map[string]time.Time{"a.hcl": truncated},
			})
			return string(files[0].Data)
		}
		first := time.Now()
		if got := read(first); got != "before" {
			t.Fatalf("at the first sight of it: %q", got)
		}
		<-time.After(emptyFor)
		second := time.Now()
		if got := read(second); got != "before" {
			t.Fatalf("truncated again: %q", got)
		}
		<-time.After(emptyFor)
		if got := read(second); got != "" {
			t.Fatalf("empty since then, and not believed: %q", got)
		}
	})
}
