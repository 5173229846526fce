package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// readLimit bounds what is read of one file; a definition may have far less,
// and its parser says so.
const readLimit = 8 << 20

// maxDepth bounds the nesting of directories; links that lead in a circle are
// found before.
const maxDepth = 32

// extensions are the names' ends that make a file count.
var extensions = []string{".hcl", ".json", ".yaml", ".yml"}

// relevant reports whether a file of the name counts: one of the extensions,
// in any case, and neither hidden nor an editor's own: .web.hcl.swp, .#web.hcl,
// #web.hcl#, ~web.hcl and web.hcl~ do not count.
func relevant(name string) bool {
	return !hidden(name) && slices.Contains(extensions, strings.ToLower(path.Ext(name)))
}

// hidden reports whether a name is out of sight: hidden, or an editor's own.
// Kubernetes keeps what its links lead to in hidden directories.
func hidden(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "~")
}

// tree reads all files that count below one directory of a file system.
type tree struct {
	fsys fs.FS
	// watch, if any, is told of each directory before it is listed, and of each
	// file that a link leads to before it is read.
	watch func(name string) error
	// top is the directory that names in files and problems are relative to.
	top string

	files    []definition.File
	problems []definition.Problem
	// modified is when each file was last written, as seen after it was read.
	modified map[string]time.Time
}

// read reads everything below the directory top, in the order of the names.
// The error is one of the directory as a whole; what is wrong with one file or
// link is a problem.
func (t *tree) read() error {
	info, err := fs.Stat(t.fsys, t.top)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "read", Path: t.top, Err: errors.New("not a directory")}
	}
	return t.directory(t.top, []fs.FileInfo{info})
}

// directory reads one directory; above are the ones that lead to it, itself
// included.
func (t *tree) directory(dir string, above []fs.FileInfo) error {
	if len(above) > maxDepth {
		t.problem(dir, fmt.Sprintf("directories are nested deeper than %d", maxDepth), "move the definitions up")
		return nil
	}
	if t.watch != nil {
		if err := t.watch(dir); err != nil {
			return err
		}
	}
	entries, err := fs.ReadDir(t.fsys, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		if err := t.entry(path.Join(dir, e.Name()), e, above); err != nil {
			return err
		}
	}
	return nil
}

// entry reads one entry of a directory.
func (t *tree) entry(name string, e fs.DirEntry, above []fs.FileInfo) error {
	linked := e.Type()&fs.ModeSymlink != 0
	if !linked && !e.IsDir() && !relevant(e.Name()) {
		return nil
	}
	info, err := fs.Stat(t.fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !linked:
		return nil // Removed since it was listed.
	case err != nil && linked:
		if relevant(e.Name()) || path.Ext(e.Name()) == "" {
			t.problem(name, "the symbolic link leads nowhere inside the catalog: "+reason(err), "let it lead to a file inside the catalog, or put a copy in its place")
		}
		return nil
	case err != nil:
		t.problem(name, "cannot be read: "+reason(err), "make it readable for the watcher, or remove it")
		return nil
	case info.IsDir():
		if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
			t.problem(name, "the symbolic link leads to a directory that it stands in", "remove the link")
			return nil
		}
		return t.directory(name, append(slices.Clip(above), info))
	case !relevant(e.Name()):
		return nil
	case !info.Mode().IsRegular():
		t.problem(name, "is not a regular file", "put a regular file in its place, or remove it")
		return nil
	}
	if linked && t.watch != nil {
		if err := t.watch(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	t.file(name)
	return nil
}

// file reads one file.
func (t *tree) file(name string) {
	f, err := t.fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return // Removed since it was listed.
	}
	if err == nil {
		defer func() { _ = f.Close() }() // It was only read.
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, readLimit)); err == nil {
			t.files = append(t.files, definition.File{Name: t.relative(name), Data: data})
			t.written(f, t.relative(name))
			return
		}
	}
	t.problem(name, "cannot be read: "+reason(err), "make it readable for the watcher, or remove it")
}

// written notes when a file that was read was last written. One that cannot say
// counts as never.
func (t *tree) written(f fs.File, name string) {
	info, err := f.Stat()
	if err != nil {
		return
	}
	if t.modified == nil {
		t.modified = map[string]time.Time{}
	}
	t.modified[name] = info.ModTime()
}

// relative is a name as it stands in files' sources and problems.
func (t *tree) relative(name string) string {
	if t.top == "." {
		return name
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, t.top), "/")
}

func (t *tree) problem(name, problem, fix string) {
	t.problems = append(t.problems, definition.Problem{
		File: t.relative(name), Line: 1, Severity: definition.SeverityError, Problem: problem, Fix: fix,
	})
}

// reason is what an error says without the path, which its problem names.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}
