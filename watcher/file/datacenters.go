package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// errNoDatacenter: the catalog has no directory of the datacenter's name.
var errNoDatacenter = errors.New("no directory of the datacenter in the catalog")

// directory is one datacenter's directory in a catalog.
type directory struct {
	// datacenter is the directory's name in lower case, path the one as it is.
	datacenter, path string
}

// foldName is a datacenter's name as it is compared.
func foldName(name string) string { return strings.ToLower(name) }

// listDatacenters lists the directories of a catalog, in the order of their
// names; links to directories count. Two names that differ in case only are an
// error.
func listDatacenters(fsys fs.FS) ([]directory, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var out []directory
	seen := map[string]string{}
	for _, e := range entries {
		if hidden(e.Name()) || !leadsToDirectory(fsys, e) {
			continue
		}
		name := foldName(e.Name())
		if other, ok := seen[name]; ok {
			return nil, fmt.Errorf("the directories %s and %s name one datacenter: rename one of them", other, e.Name())
		}
		seen[name] = e.Name()
		out = append(out, directory{datacenter: name, path: e.Name()})
	}
	return out, nil
}

func leadsToDirectory(fsys fs.FS, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := fs.Stat(fsys, e.Name())
	return err == nil && info.IsDir()
}

// findDatacenter is the path of a datacenter's directory.
func findDatacenter(all []directory, datacenter string) (string, error) {
	for _, d := range all {
		if d.datacenter == foldName(datacenter) {
			return d.path, nil
		}
	}
	return "", fmt.Errorf("%w: make the directory %s, or name one of %s", errNoDatacenter, datacenter, strings.Join(names(all), ", "))
}

func names(all []directory) []string {
	out := make([]string, len(all))
	for i, d := range all {
		out[i] = d.datacenter
	}
	return out
}

// absolute is a file's name relative to the catalog.
func (t *tree) absolute(name string) string { return path.Join(t.top, name) }
