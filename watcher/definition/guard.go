package definition

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// The limits of one file. They are far above what people write and far below
// what hurts.
const (
	// maxSize in bytes.
	maxSize = 2 << 20
	// maxDepth of objects and lists inside one another.
	maxDepth = 100
	// maxNodes counts values, those repeated by YAML aliases each time.
	maxNodes = 200_000
)

var readers = map[string]reader{
	".hcl":  readHCL,
	".json": readJSON,
	".yaml": readYAML,
	".yml":  readYAML,
}

// Readable reports whether a name has an extension that [Parse] can read.
func Readable(name string) bool {
	return readers[extension(name)] != nil
}

// extension is what a file is written in, in whatever case its name says so.
func extension(name string) string { return strings.ToLower(path.Ext(name)) }

// read turns a file into trees. What no library should see is refused first; a
// panic of a library ends here.
func read(file File) (roots []*node, broken *fault) {
	front := readers[extension(file.Name)]
	if front == nil {
		return nil, &fault{1, fmt.Sprintf("the extension %q is not known", path.Ext(file.Name)), "use .hcl, .json, .yaml or .yml"}
	}
	data := bytes.TrimPrefix(file.Data, []byte("\xef\xbb\xbf"))
	if f := guard(data); f != nil {
		return nil, f
	}
	defer func() {
		if cause := recover(); cause != nil {
			roots = nil
			broken = &fault{1, "the file cannot be read: " + shorten(fmt.Sprint(cause)), "check the file's syntax"}
		}
	}()
	return front(data)
}

// guard refuses bytes that are not text of a bearable size.
func guard(data []byte) *fault {
	if len(data) > maxSize {
		return &fault{1, fmt.Sprintf("the file has %d bytes, more than %d", len(data), maxSize), "split it into several files"}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return &fault{lineAt(data, i), "a NUL byte is not text", "remove it"}
	}
	if !utf8.Valid(data) {
		return &fault{lineAt(data, invalidAt(data)), "the file is not valid UTF-8", "save it as UTF-8"}
	}
	return nil
}

func invalidAt(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}

func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(offset, len(data))], []byte("\n"))
}

// budget counts the values of a file.
type budget int

func (b *budget) spend(line, depth int) *fault {
	*b++
	if *b > maxNodes {
		return tooMany(line)
	}
	if depth > maxDepth {
		return tooDeep(line)
	}
	return nil
}

func tooDeep(line int) *fault {
	return &fault{line, fmt.Sprintf("values are nested more than %d deep", maxDepth), "nest less deeply"}
}

func tooMany(line int) *fault {
	return &fault{line, fmt.Sprintf("the file has more than %d values", maxNodes), "split it into several files, or use fewer aliases"}
}

// syntax makes a library's message a fault.
func syntax(line int, language string, err error) *fault {
	return &fault{max(line, 1), "not valid " + language + ": " + shorten(strings.TrimSuffix(err.Error(), ".")), "correct the syntax here or just before"}
}
