package archtest

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// impureImports are the packages of the standard library that bring a clock,
// chance, I/O or a logger; "x/" stands for everything below x.
var impureImports = []string{
	"bufio", "context", "crypto/rand", "database/", "embed", "expvar", "io/fs", "io/ioutil",
	"log", "log/", "math/rand", "math/rand/", "net/http/", "net/mail", "net/rpc",
	"net/smtp", "net/textproto", "os", "os/", "path/filepath", "plugin", "runtime", "runtime/",
	"syscall", "syscall/", "testing", "testing/", "unsafe",
}

// lockImports are what several goroutines share state with.
var lockImports = []string{"sync", "sync/"}

// impureNames are the parts of package time that read or wait for a clock. Types
// and units of time are values like any other.
var impureNames = map[string][]string{
	"time": {
		"After", "AfterFunc", "LoadLocation", "Local", "NewTicker", "NewTimer", "Now", "Since", "Sleep",
		"Tick", "Ticker", "Timer", "Until",
	},
}

// pureNames are the only parts that a pure package may use of libraries that
// otherwise reach outside: they read and write notations.
var pureNames = map[string]*regexp.Regexp{
	"net":      regexp.MustCompile(`^(IP|IPNet|JoinHostPort|ParseCIDR|ParseIP|SplitHostPort)$`),
	"net/http": regexp.MustCompile(`^(CanonicalHeaderKey|Header|Method[A-Z].*|Status[A-Z].*)$`),
}

// purity checks that the pure packages compute from their arguments only.
func (c *checker) purity(f *file) {
	level := Impure
	for _, row := range c.layout.Packages {
		if row.Folder == f.folder {
			level = row.Purity
		}
	}
	if level == Impure || f.test || f.generated {
		return
	}
	for _, spec := range f.syntax.Imports {
		name := importPath(spec)
		if listed(impureImports, name) || level == Pure && listed(lockImports, name) {
			c.report(f.path, f.line(spec.Pos()), "purity", "%s is pure: it may not import %s", f.folder, name)
		}
	}
	ast.Inspect(f.syntax, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			c.report(f.path, f.line(node.Pos()), "purity", "%s is pure: it may not start a goroutine", f.folder)
		case *ast.SelectorExpr:
			library, name := f.selector(node)
			allowed, limited := pureNames[library]
			if slices.Contains(impureNames[library], name) || limited && !allowed.MatchString(name) {
				c.report(f.path, f.line(node.Pos()), "purity",
					"%s is pure: it may not use %s.%s; take what that gives as an argument", f.folder, library, name)
			}
		}
		return true
	})
}

// listed reports whether a list names an import path.
func listed(list []string, name string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		return entry == name || strings.HasSuffix(entry, "/") && strings.HasPrefix(name, entry)
	})
}

// selector takes NAME.Selected apart where NAME is an import: the path behind it
// and what is selected.
func (f *file) selector(node *ast.SelectorExpr) (library, name string) {
	if identifier, ok := node.X.(*ast.Ident); ok {
		return f.names[identifier.Name], node.Sel.Name
	}
	return "", ""
}
