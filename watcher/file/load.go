package file

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// LoadOptions say what files do not say.
type LoadOptions struct {
	// TrustDomain goes into the mesh facts of each datacenter.
	TrustDomain string
	// Roots become a value of each datacenter. Nil: none.
	Roots *isthmusv1.CARoots
}

// Layout is what a path was taken for.
type Layout string

// The layouts of a path.
const (
	LayoutFile       Layout = "file"
	LayoutDatacenter Layout = "datacenter"
	LayoutCatalog    Layout = "catalog"
)

// Loaded is what a path holds.
type Loaded struct {
	// Layout is what the path was taken for: a directory with definitions right
	// in it, or with an agent's file below it that says so, is a datacenter's,
	// another one a catalog.
	Layout Layout
	// Datacenters in the order of their names; one for a file or a datacenter's
	// directory.
	Datacenters []Datacenter
}

// Datacenter is one datacenter as its files describe it.
type Datacenter struct {
	// Name is empty for a single file.
	Name string
	// Values are what would be published; those of a datacenter with errors are
	// not whole. A value's Source has the file relative to the datacenter's
	// directory.
	Values []watcher.Value
	// Problems by file and line; the files are relative to the datacenter's
	// directory.
	Problems []definition.Problem
	// directory is where its files are, as the caller wrote the path.
	directory string
}

// Problems are all problems of all datacenters, by file and line, with the
// files' paths as the caller can open them.
func (l *Loaded) Problems() []definition.Problem {
	var out []definition.Problem
	for _, d := range l.Datacenters {
		for _, p := range d.Problems {
			p.File = filepath.Join(d.directory, filepath.FromSlash(p.File))
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b definition.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return out
}

// HasErrors reports whether any problem is an error, so that nothing of it
// would be published.
func (l *Loaded) HasErrors() bool {
	return slices.ContainsFunc(l.Problems(), func(p definition.Problem) bool { return p.Severity == definition.SeverityError })
}

// Datacenter returns the datacenter of a name, without regard to case.
func (l *Loaded) Datacenter(name string) (Datacenter, bool) {
	for _, d := range l.Datacenters {
		if d.Name == foldName(name) {
			return d, true
		}
	}
	return Datacenter{}, false
}

// Load reads a file, a datacenter's directory or a whole catalog once. What is
// wrong with files are problems, and all are reported at once; the error is
// one of the path itself.
func Load(name string, options LoadOptions) (*Loaded, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return loadFile(name, info, options)
	}
	absolute, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	own := foldName(filepath.Base(absolute))
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	one, err := isDatacenter(root.FS(), own)
	if err != nil {
		return nil, err
	}
	if !one {
		return LoadCatalog(root.FS(), name, options)
	}
	around, inside := surroundings(absolute)
	if around != nil {
		defer around.Close()
		root = around
	}
	dc, err := loadDatacenter(root.FS(), directory{datacenter: own, path: inside}, nil, options)
	if err != nil {
		return nil, err
	}
	dc.directory = name
	return &Loaded{Layout: LayoutDatacenter, Datacenters: []Datacenter{dc}}, nil
}

// surroundings opens the catalog around a datacenter's directory, so that its
// links may lead where they may when the whole catalog is read, and returns how
// the directory is called in it. Nil: it cannot be opened, and the directory
// stands alone.
func surroundings(directory string) (*os.Root, string) {
	resolved, err := filepath.EvalSymlinks(directory)
	base := filepath.Base(resolved)
	if err != nil || filepath.Dir(resolved) == resolved || !fs.ValidPath(base) {
		return nil, "."
	}
	root, err := os.OpenRoot(filepath.Dir(resolved))
	if err != nil {
		return nil, "."
	}
	return root, base
}

// LoadCatalog reads a whole catalog from a file system, such as an embedded
// one. The name stands before the files of problems, and may be empty.
func LoadCatalog(fsys fs.FS, name string, options LoadOptions) (*Loaded, error) {
	all, err := listDatacenters(fsys)
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("catalog %s: neither a definition (%v) nor a datacenter's directory is in it", name, extensions)
	}
	loaded := &Loaded{Layout: LayoutCatalog}
	for _, d := range all {
		dc, err := loadDatacenter(fsys, d, names(all), options)
		if err != nil {
			return nil, fmt.Errorf("catalog %s: %w", name, err)
		}
		dc.directory = filepath.Join(name, d.path)
		loaded.Datacenters = append(loaded.Datacenters, dc)
	}
	return loaded, nil
}

// isDatacenter reports whether a directory of the name is a datacenter's: it has
// definitions right in it, or an agent's file below it says that it belongs to
// the datacenter of that name, and none that it belongs to one of the
// directories in it.
func isDatacenter(fsys fs.FS, name string) (bool, error) {
	if direct, err := holdsDefinitions(fsys); direct || err != nil {
		return direct, err
	}
	t := &tree{fsys: fsys, top: "."}
	if err := t.read(); err != nil {
		return false, err
	}
	found := false
	for _, f := range t.files {
		if !bytes.Contains(bytes.ToLower(f.Data), []byte("datacenter")) {
			continue
		}
		first, _, _ := strings.Cut(f.Name, "/")
		switch foldName(definition.DatacenterOf(f)) {
		case foldName(first):
			return false, nil
		case name:
			found = true
		}
	}
	return found, nil
}

// holdsDefinitions reports whether a directory has definitions right in it.
func holdsDefinitions(fsys fs.FS) (bool, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return relevant(e.Name()) && !leadsToDirectory(fsys, e)
	}), nil
}

func loadFile(name string, info fs.FileInfo, options LoadOptions) (*Loaded, error) {
	dir, base := filepath.Split(name)
	t := &tree{fsys: os.DirFS(filepath.Clean(cmp.Or(dir, "."))), top: "."}
	if !slices.Contains(extensions, foldName(path.Ext(base))) {
		return nil, fmt.Errorf("%s: a definition's extension is one of %v", name, extensions)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", name)
	}
	t.file(base)
	dc := parse(t, "", nil, options)
	dc.directory = dir
	return &Loaded{Layout: LayoutFile, Datacenters: []Datacenter{dc}}, nil
}

func loadDatacenter(fsys fs.FS, d directory, known []string, options LoadOptions) (Datacenter, error) {
	t := &tree{fsys: fsys, top: d.path}
	if err := t.read(); err != nil {
		return Datacenter{}, err
	}
	return parse(t, d.datacenter, known, options), nil
}

// parse is what a tree comes to.
func parse(t *tree, datacenter string, known []string, options LoadOptions) Datacenter {
	catalog := definition.Parse(t.files, definition.Options{
		Datacenter: datacenter, TrustDomain: options.TrustDomain, KnownDatacenters: known,
	})
	out := Datacenter{Name: datacenter, Problems: append(t.problems, catalog.Problems...)}
	for _, v := range catalog.Values {
		out.Values = append(out.Values, watcher.Value{Key: v.Key, Value: v.Message, Source: v.Source})
	}
	if options.Roots != nil {
		out.Values = append(out.Values, watcher.Value{Key: isthmusv1.RootsKey(), Value: options.Roots, Source: &isthmusv1.Source{}})
	}
	return out
}
