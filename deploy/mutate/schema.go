package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
)

// A schema is a package that holds many mutants at once: each function that has
// some begins with a switch that hands over to a copy of it, one for each
// mutant. Which one lives is said in the environment when the tests start, so
// that the package is compiled and linked once and not once for each mutant.

// chooser is the environment variable that names the living mutant by number.
const chooser = "ISTHMUS_MUTANT"

// chooserFile is the file that a schema adds to its package.
func chooserFile(packageName string) []byte {
	return fmt.Appendf(nil, `package %s

import (
	mutantOS "os"
	mutantStrconv "strconv"
)

var livingMutant, _ = mutantStrconv.Atoi(mutantOS.Getenv(%q))
`, packageName, chooser)
}

// schemaFile is a file with mutants in it.
type schemaFile struct {
	source []byte
	// begins tells which copy a line of the source belongs to: the line that
	// each copy begins at, in order, and its mutant's number.
	begins []begin
}

type begin struct{ line, number int }

// at is the number of the mutant whose copy a line belongs to; false for lines
// before the first copy.
func (f schemaFile) at(line int) (number int, ok bool) {
	i, found := slices.BinarySearchFunc(f.begins, line, func(b begin, line int) int { return b.line - line })
	if !found {
		i--
	}
	if i < 0 {
		return 0, false
	}
	return f.begins[i].number, true
}

// schema puts mutants into their file, by their numbers. Left out are those that
// cannot stand in a copy of a function: outside of functions, in the head of
// one, or in one with type parameters; each of them takes a build of its own.
func schema(name string, source []byte, mutants map[int]mutant) (f schemaFile, outside []int, err error) {
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, name, source, parser.SkipObjectResolution)
	if err != nil {
		return schemaFile{}, nil, fmt.Errorf("mutate: %w", err)
	}
	left := maps.Clone(mutants)
	var switches []edit
	var copies bytes.Buffer
	lineBefore := bytes.Count(source, []byte("\n")) + 1
	for _, declaration := range syntax.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Body == nil || function.Type.TypeParams != nil || receiverIsGeneric(function) {
			continue
		}
		c := copier{source: source, function: function, offset: func(at token.Pos) int { return positions.Position(at).Offset }}
		var cases strings.Builder
		for _, number := range slices.Sorted(maps.Keys(left)) {
			m := left[number]
			if !c.holds(m) {
				continue
			}
			delete(left, number)
			f.begins = append(f.begins, begin{lineBefore + bytes.Count(copies.Bytes(), []byte("\n")) + 1, number})
			copies.WriteString("\n" + c.copied(number, m) + "\n")
			cases.WriteString(c.handOver(number))
		}
		if cases.Len() == 0 {
			continue
		}
		switches = append(switches, c.names()...)
		body := c.offset(function.Body.Lbrace) + 1
		// On one line, so that the lines of the file stay what they are.
		switches = append(switches, edit{body, body, "switch livingMutant {" + cases.String() + "};"})
	}
	f.source = mutant{edits: switches}.apply(source)
	f.source = append(append(f.source, '\n'), copies.Bytes()...)
	return f, slices.Sorted(maps.Keys(left)), nil
}

// receiverIsGeneric reports whether a method is of a type with type parameters.
func receiverIsGeneric(function *ast.FuncDecl) bool {
	if function.Recv == nil {
		return false
	}
	generic := false
	ast.Inspect(function.Recv, func(node ast.Node) bool {
		switch node.(type) {
		case *ast.IndexExpr, *ast.IndexListExpr:
			generic = true
		}
		return true
	})
	return generic
}

// copier makes copies of one function.
type copier struct {
	source   []byte
	function *ast.FuncDecl
	offset   func(token.Pos) int
}

// holds reports whether a mutant changes nothing but the function's body.
func (c copier) holds(m mutant) bool {
	start, end := c.offset(c.function.Body.Lbrace), c.offset(c.function.Body.End())
	return !slices.ContainsFunc(m.edits, func(e edit) bool { return e.start <= start || e.end >= end })
}

// copyName is the name of a mutant's copy. It is not exported, whatever the
// function is, so that method sets look the same from outside.
func (c copier) copyName(number int) string {
	return fmt.Sprintf("mutant%d%s", number, c.function.Name.Name)
}

// copied is the function with a name and a body of its own.
func (c copier) copied(number int, m mutant) string {
	start, end := c.offset(c.function.Pos()), c.offset(c.function.End())
	if c.function.Doc != nil {
		start = c.offset(c.function.Type.Func)
	}
	name := c.function.Name
	edits := append(c.names(), edit{c.offset(name.Pos()), c.offset(name.End()), c.copyName(number)})
	edits = append(edits, m.edits...)
	for i := range edits {
		edits[i].start -= start
		edits[i].end -= start
	}
	return string(mutant{edits: edits}.apply(c.source[start:end]))
}

// names gives a name to each parameter that has none, so that it can be handed
// over.
func (c copier) names() []edit {
	var edits []edit
	c.eachParameter(func(name string, at token.Pos, field *ast.Field, given *ast.Ident) {
		switch {
		case given == nil:
			edits = append(edits, edit{c.offset(at), c.offset(at), name + " "})
		case given.Name == "_":
			edits = append(edits, edit{c.offset(given.Pos()), c.offset(given.End()), name})
		}
	})
	return edits
}

// eachParameter calls use for the receiver and every parameter with its name:
// the given one, or a new one where there is none.
func (c copier) eachParameter(use func(name string, at token.Pos, field *ast.Field, given *ast.Ident)) {
	count := 0
	fresh := func() string {
		count++
		return fmt.Sprintf("mutantParameter%d", count)
	}
	var fields []*ast.Field
	if c.function.Recv != nil {
		fields = append(fields, c.function.Recv.List...)
	}
	for _, field := range append(fields, c.function.Type.Params.List...) {
		if len(field.Names) == 0 {
			use(fresh(), field.Type.Pos(), field, nil)
		}
		for _, given := range field.Names {
			name := given.Name
			if name == "_" {
				name = fresh()
			}
			use(name, given.Pos(), field, given)
		}
	}
}

// handOver is the case of the switch that calls a mutant's copy.
func (c copier) handOver(number int) string {
	var names []string
	c.eachParameter(func(name string, _ token.Pos, field *ast.Field, _ *ast.Ident) {
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			name += "..."
		}
		names = append(names, name)
	})
	call := c.copyName(number) + "("
	if c.function.Recv != nil {
		call, names = names[0]+"."+call, names[1:]
	}
	call += strings.Join(names, ", ") + ")"
	if c.function.Type.Results.NumFields() > 0 {
		return fmt.Sprintf("case %d: return %s;", number, call)
	}
	return fmt.Sprintf("case %d: %s; return;", number, call)
}
