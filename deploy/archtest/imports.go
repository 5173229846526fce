package archtest

import (
	"slices"
	"strings"
)

// imports holds a file against its row of the import table. Tests may import
// what they need to test with, and deploy/ surrounds the product.
func (c *checker) imports(f *file) {
	if f.deploy() {
		return
	}
	row := slices.IndexFunc(c.layout.Packages, func(p Package) bool { return p.Folder == f.folder })
	if row < 0 || f.test {
		return
	}
	allowed := c.layout.Packages[row].Imports
	if slices.Contains(allowed, "everything") {
		return
	}
	for _, spec := range f.syntax.Imports {
		ours, ok := strings.CutPrefix(importPath(spec), c.layout.Module+"/")
		if !ok || slices.Contains(allowed, ours) {
			continue
		}
		c.report(f.path, f.line(spec.Pos()), "import table",
			"%s may not import %s; it may import %s", f.folder, ours, enumerate(allowed))
	}
}

// inTable checks that a package has a row in the import table.
func (c *checker) inTable(folder string, files []*file) {
	if !files[0].deploy() && !slices.ContainsFunc(c.layout.Packages, func(p Package) bool { return p.Folder == folder }) {
		c.report(files[0].path, files[0].line(files[0].syntax.Package), "import table",
			"package %s has no row in the table; give it one reason to exist there, or put it into a package that has", folder)
	}
}

// enumerate is a list in words.
func enumerate(folders []string) string {
	if len(folders) == 0 {
		return "nothing of ours"
	}
	return strings.Join(folders, ", ")
}

// owners checks that each library is used where it is owned only.
func (c *checker) owners(f *file) {
	if f.test || f.deploy() {
		return
	}
	for _, spec := range f.syntax.Imports {
		for _, owner := range c.layout.Owners {
			if !within(importPath(spec), owner.Library) ||
				slices.ContainsFunc(owner.Folders, func(folder string) bool { return within(f.folder, folder) }) {
				continue
			}
			c.report(f.path, f.line(spec.Pos()), "third-party owner",
				"only %s may import %s", strings.Join(owner.Folders, ", "), owner.Library)
		}
	}
}
