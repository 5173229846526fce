package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// edit replaces the bytes [start, end) of a file.
type edit struct {
	start, end int
	text       string
}

// mutant is one small change of one file.
type mutant struct {
	// file is the path from the top of the repository; line and function say
	// where in it the change is.
	file     string
	line     int
	function string
	// operator names the kind of change.
	operator string
	edits    []edit
}

// apply gives the file's content with the change made.
func (m mutant) apply(source []byte) []byte {
	edits := slices.SortedFunc(slices.Values(m.edits), func(a, b edit) int { return a.start - b.start })
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(append(out, source[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, source[at:]...)
}

// diff is the change as lines: those that it takes away after "- ", those that
// it brings after "+ ", without their indentation.
func (m mutant) diff(source []byte) string {
	before := strings.Split(string(source), "\n")
	after := strings.Split(string(m.apply(source)), "\n")
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	var out strings.Builder
	write := func(mark string, lines []string) {
		for _, line := range lines {
			if line = strings.TrimSpace(line); line != "" {
				fmt.Fprintf(&out, "%s %s\n", mark, line)
			}
		}
	}
	write("-", before)
	write("+", after)
	return out.String()
}

// mutants lists every mutant of a file, in the order of the text, and gives the
// name of its package. Of changes that come to the same text there is one.
func mutants(name string, source []byte) (packageName string, list []mutant, err error) {
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, name, source, parser.SkipObjectResolution)
	if err != nil {
		return "", nil, fmt.Errorf("mutate: %w", err)
	}
	var found []mutant
	w := &walker{source: source, positions: positions, file: name, found: &found}
	for _, declaration := range syntax.Decls {
		w.function = ""
		switch declaration := declaration.(type) {
		case *ast.FuncDecl:
			w.function = declaration.Name.Name
		case *ast.GenDecl:
			if declaration.Tok == token.IMPORT || declaration.Tok == token.TYPE {
				continue
			}
		}
		ast.Walk(w, declaration)
	}
	slices.SortStableFunc(found, func(a, b mutant) int { return a.edits[0].start - b.edits[0].start })
	seen := map[string]bool{}
	for _, m := range found {
		text := m.apply(source)
		if _, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution); err != nil || seen[string(text)] {
			continue
		}
		seen[string(text)] = true
		list = append(list, m)
	}
	return syntax.Name.Name, list, nil
}
