package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/isthmus-mesh/isthmus/services/top"
)

// screen is a terminal that is drawn on again and again, beside what it shows
// otherwise: the shell's lines are there again when it is left.
type screen struct {
	file *os.File
	// mu keeps drawings apart from the time in which the terminal is given back.
	mu sync.Mutex
}

// What a terminal is told (xterm's sequences, which all others know too).
const (
	screenEnter = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	screenLeave = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	lineRest    = "\x1b[K"
	screenRest  = "\x1b[J"
)

// terminal returns the screen behind a writer, if it is one that can be drawn on.
func terminal(w io.Writer, environment func(string) string) (*screen, bool) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || environment("TERM") == "dumb" {
		return nil, false
	}
	return &screen{file: file}, true
}

func (s *screen) enter() { fmt.Fprint(s.file, screenEnter) }

func (s *screen) leave() { fmt.Fprint(s.file, screenLeave) }

// size is the room that there is now.
func (s *screen) size() top.Size {
	width, height, err := term.GetSize(int(s.file.Fd()))
	if err != nil {
		return top.Size{}
	}
	return top.Size{Width: width, Height: height}
}

// draw replaces what is on the screen, without clearing it first: nothing flickers.
func (s *screen) draw(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.file, drawing(text))
	return err
}

// drawing is text as a terminal takes it in place of what is there.
func drawing(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return screenHome + strings.Join(lines, lineRest+"\r\n") + lineRest + screenRest
}
