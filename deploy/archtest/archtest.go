package archtest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

// Layout is what the design says about a repository. Packages are named by
// their folder, relative to the top ("gateway/hello").
type Layout struct {
	// Module is the module's path.
	Module string
	// TopLevel lists what may stand at the top; names with a leading dot may
	// always.
	TopLevel []string
	// Packages has one row for each package outside of deploy/.
	Packages []Package
	// Owners has one row for each library that only one place may use.
	Owners []Owner
	// MaxLines is the length that a hand-written file must stay under.
	MaxLines int
}

// Package is one row of the import table.
type Package struct {
	// Folder is where the package stands.
	Folder string
	// Imports lists the packages of this repository that it may import, by
	// folder; the one word "everything" lifts the rule.
	Imports []string
	// Purity is what its code must do without; the zero value asks nothing.
	Purity Purity
}

// Purity is what the code of a package must do without.
type Purity int

const (
	// Impure code may do anything.
	Impure Purity = iota
	// Steady code has no clock, randomness, I/O, logger or goroutine; it may
	// keep counters that several goroutines share.
	Steady
	// Pure code has, besides, no lock and no atomic.
	Pure
)

// Owner is a library that only some packages may import.
type Owner struct {
	// Library is the library's import path; its sub-packages are meant too.
	Library string
	// Folders are the packages that may, their sub-packages included.
	Folders []string
}

// Source is one file of the repository: its path from the top, with slashes,
// and its content, which only Go files need.
type Source struct {
	Path    string
	Content []byte
}

// Violation is one broken rule, at its place.
type Violation struct {
	File string
	Line int
	Rule string
	Text string
}

// String is the violation as compilers write errors: file:line: text [rule].
func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s [%s]", v.File, v.Line, v.Text, v.Rule)
}

// file is a parsed Go file.
type file struct {
	path      string
	folder    string
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
	positions *token.FileSet
	// names holds the import path behind each name that an import brings.
	names map[string]string
}

// line is the line of a position in the file.
func (f *file) line(at token.Pos) int { return f.positions.Position(at).Line }

// deploy reports whether the file belongs to what surrounds the product.
func (f *file) deploy() bool { return within(f.folder, "deploy") }

// checker collects what is wrong.
type checker struct {
	layout Layout
	found  []Violation
}

func (c *checker) report(path string, line int, rule, format string, args ...any) {
	c.found = append(c.found, Violation{File: path, Line: line, Rule: rule, Text: fmt.Sprintf(format, args...)})
}

// Check holds the files against the layout and returns every violation, sorted
// by file and line. A Go file that does not parse is a violation too.
func Check(sources []Source, layout Layout) []Violation {
	c := &checker{layout: layout}
	c.topLevel(sources)
	packages := map[string][]*file{}
	for _, source := range sources {
		if !goFile(source.Path) {
			continue
		}
		f, err := parse(source)
		if err != nil {
			c.report(source.Path, 1, "syntax", "%v", err)
			continue
		}
		packages[f.folder] = append(packages[f.folder], f)
		c.imports(f)
		c.owners(f)
		c.purity(f)
		c.habits(f)
	}
	for folder, files := range packages {
		slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
		c.inTable(folder, files)
		c.packageComment(folder, files)
	}
	slices.SortFunc(c.found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return c.found
}

// goFile reports whether the checks read the file; testdata is input of tests
// and nested modules are tools, not ours to judge.
func goFile(name string) bool {
	return strings.HasSuffix(name, ".go") &&
		!strings.Contains("/"+name, "/testdata/") &&
		!within(path.Dir(name), "deploy/tools")
}

// parse reads one Go file.
func parse(source Source) (*file, error) {
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, source.Path, source.Content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &file{
		path:      source.Path,
		folder:    path.Dir(source.Path),
		test:      strings.HasSuffix(source.Path, "_test.go"),
		generated: ast.IsGenerated(syntax),
		lines:     strings.Count(string(source.Content), "\n"),
		syntax:    syntax,
		positions: positions,
		names:     map[string]string{},
	}
	for _, spec := range syntax.Imports {
		f.names[importName(spec)] = importPath(spec)
	}
	return f, nil
}

// importPath is the path that an import names.
func importPath(spec *ast.ImportSpec) string { return strings.Trim(spec.Path.Value, `"`) }

// importName is the name that an import has in its file: its alias, or the last
// element of its path that is not a major version.
func importName(spec *ast.ImportSpec) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	name := path.Base(importPath(spec))
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(importPath(spec)))
	}
	return name
}

// within reports whether a path is a folder or lies in it.
func within(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

// topLevel checks what stands at the top of the repository.
func (c *checker) topLevel(sources []Source) {
	seen := map[string]bool{}
	for _, source := range sources {
		entry, _, _ := strings.Cut(source.Path, "/")
		if seen[entry] || strings.HasPrefix(entry, ".") || slices.Contains(c.layout.TopLevel, entry) {
			continue
		}
		seen[entry] = true
		c.report(entry, 1, "top level", "the design names nothing called %q at the top of the repository", entry)
	}
}
