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

// mutants lists every mutant of a file, in the order of the text.
func mutants(name string, source []byte) ([]mutant, error) {
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("mutate: %w", err)
	}
	w := &walker{source: source, positions: positions, file: name}
	for _, declaration := range syntax.Decls {
		w.function, w.returnsBool = "", false
		switch declaration := declaration.(type) {
		case *ast.FuncDecl:
			w.function = declaration.Name.Name
			w.returnsBool = returnsBool(declaration.Type)
		case *ast.GenDecl:
			if declaration.Tok == token.IMPORT || declaration.Tok == token.TYPE {
				continue
			}
		}
		ast.Inspect(declaration, func(node ast.Node) bool {
			w.visit(node)
			return true
		})
	}
	slices.SortStableFunc(w.found, func(a, b mutant) int { return a.edits[0].start - b.edits[0].start })
	return w.found, nil
}

// returnsBool reports whether a function has one result, a bool.
func returnsBool(f *ast.FuncType) bool {
	if f.Results.NumFields() != 1 {
		return false
	}
	result, ok := f.Results.List[0].Type.(*ast.Ident)
	return ok && result.Name == "bool"
}
