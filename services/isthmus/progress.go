package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress shows how far a long work is, on a terminal only.
type progress struct {
	w     io.Writer
	what  string
	shown time.Time
	live  bool
}

// progressEvery is the least time between two shows.
const progressEvery = 100 * time.Millisecond

func newProgress(w io.Writer, what string) *progress {
	file, ok := w.(*os.File)
	return &progress{w: w, what: what, live: ok && term.IsTerminal(int(file.Fd()))}
}

// at shows that done of all is done.
func (p *progress) at(done, all uint64) {
	if !p.live || time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s %d of %d (%d %%)", p.what, done, all, done*100/max(all, 1))
}

// end takes the line away.
func (p *progress) end() {
	if p.live && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
