package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
)

// globals are functions and variables that act on state of the whole process:
// loggers, registries and servers are given by whoever wires the program.
var globals = map[string][]string{
	"log/slog": {
		"Debug", "DebugContext", "Default", "Error", "ErrorContext", "Info", "InfoContext", "Log", "LogAttrs",
		"SetDefault", "Warn", "WarnContext", "With",
	},
	"net/http": {"DefaultClient", "DefaultServeMux", "Get", "Handle", "HandleFunc", "Head", "Post", "PostForm"},
	"github.com/prometheus/client_golang/prometheus": {
		"DefaultGatherer", "DefaultRegisterer", "MustRegister", "Register", "Unregister",
	},
}

// unfinished are the words by which code says that it is not done.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// habits checks what every hand-written file keeps to.
func (c *checker) habits(f *file) {
	if f.generated {
		return
	}
	if f.lines >= c.layout.MaxLines {
		c.report(f.path, f.lines, "file length", "%d lines; a file stays under %d so that a person reads it whole", f.lines, c.layout.MaxLines)
	}
	for _, spec := range f.syntax.Imports {
		switch {
		case importName(spec) == ".":
			c.report(f.path, f.line(spec.Pos()), "dot import", "a name should say where it comes from")
		case importPath(spec) == "log":
			c.report(f.path, f.line(spec.Pos()), "global logger", "take a *slog.Logger from the caller instead of package log")
		}
	}
	for _, group := range f.syntax.Comments {
		for _, comment := range group.List {
			if word := unfinished.FindString(comment.Text); word != "" {
				c.report(f.path, f.line(comment.Pos()), "unfinished", "%s: finish it, or state the limit in words", word)
			}
		}
	}
	for _, declaration := range f.syntax.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
			c.report(f.path, f.line(function.Pos()), "init", "no init(): importing a package must do nothing")
		}
	}
	bubbles := f.bubbles()
	ast.Inspect(f.syntax, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		library, name := f.selector(selector)
		switch {
		case slices.Contains(globals[library], name):
			c.report(f.path, f.line(selector.Pos()), "global state",
				"%s.%s acts on the whole process; take what it needs from the caller", library, name)
		case f.test && library == "time" && name == "Sleep" && !bubbles.contain(selector.Pos()):
			c.report(f.path, f.line(selector.Pos()), "sleep in test",
				"wait for a sequence number, a channel or readiness, or use testing/synctest")
		}
		return true
	})
}

// spans are stretches of a file.
type spans [][2]token.Pos

func (s spans) contain(at token.Pos) bool {
	return slices.ContainsFunc(s, func(span [2]token.Pos) bool { return span[0] <= at && at < span[1] })
}

// bubbles are the stretches that only run on a fake clock, where a sleep moves
// time and waits for nothing: the calls of synctest.Test, and a statement right
// before synctest.Wait(), which panics outside of a bubble.
func (f *file) bubbles() spans {
	var found spans
	ast.Inspect(f.syntax, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.CallExpr:
			if f.calls(node, "Test") {
				found = append(found, [2]token.Pos{node.Pos(), node.End()})
			}
		case *ast.BlockStmt:
			for i, statement := range node.List {
				if wait, ok := statement.(*ast.ExprStmt); ok && i > 0 && f.calls(wait.X, "Wait") {
					found = append(found, [2]token.Pos{node.List[i-1].Pos(), node.List[i-1].End()})
				}
			}
		}
		return true
	})
	return found
}

// calls reports whether an expression calls the named function of
// testing/synctest.
func (f *file) calls(expression ast.Expr, function string) bool {
	call, ok := expression.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	library, name := f.selector(selector)
	return library == "testing/synctest" && name == function
}

// packageComment checks that one file of a package says what the package is. A
// package of tests only says it in a test.
func (c *checker) packageComment(folder string, files []*file) {
	onlyTests := !slices.ContainsFunc(files, func(f *file) bool { return !f.test })
	for _, f := range files {
		if (onlyTests || !f.test) && f.syntax.Doc != nil {
			return
		}
	}
	c.report(files[0].path, files[0].line(files[0].syntax.Package), "package comment",
		"package %s does not say what it is for", folder)
}
