package definition

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// spot is where a key stands and how it is written there.
type spot struct {
	file string
	line int
	key  string
}

// cursor is a node and how the decoder came to it.
type cursor struct {
	*node
	// key is the path as written in the file, from its root.
	key string
	// path is the path in snake_case from the root of the value that is being
	// decoded, as violations name it.
	path string
	// line of the key; a value may begin on a later one.
	line int
}

// decoder turns one file's tree into values. The same decoder reads every
// format and every kind.
type decoder struct {
	file     string
	problems []Problem
	// errors and warnings count the problems so far: a value during which errors
	// grew does not come out.
	errors, warnings int
	// places of the value that is being decoded, by path.
	places  map[string]spot
	filters filters
	// What the file defines.
	entries  []*draftEntry
	services []*draft
	agents   []*agent
}

// schema says what each key of an object means; the keys are in snake_case.
type schema map[string]func(cursor)

// full reports whether the file has more errors than are listed. What follows
// in it is not looked at.
func (d *decoder) full() bool { return d.errors > maxProblems }

// report keeps a problem, unless there are more of its severity than are listed.
func (d *decoder) report(severity Severity, line int, key, problem, fix string) {
	count := &d.errors
	if severity == SeverityWarning {
		count = &d.warnings
	}
	if *count++; *count > maxProblems+1 {
		return
	}
	d.problems = append(d.problems, Problem{
		File: d.file, Line: max(line, 1), Key: shorten(key), Severity: severity, Problem: problem, Fix: fix,
	})
}

func (d *decoder) refuse(c cursor, problem, fix string) {
	d.report(SeverityError, c.line, c.key, problem, fix)
}

func (d *decoder) warn(c cursor, problem, fix string) {
	d.report(SeverityWarning, c.line, c.key, problem, fix)
}

// mark remembers where a path of the present value stands.
func (d *decoder) mark(c cursor) {
	if _, known := d.places[c.path]; !known {
		d.places[c.path] = spot{file: d.file, line: c.line, key: c.key}
	}
}

// fresh begins a value at the cursor: paths count from here.
func (d *decoder) fresh(c cursor) cursor {
	c.path = ""
	d.places = map[string]spot{}
	d.mark(c)
	return c
}

// judge turns the rules that a decoded value breaks into problems at the places
// where its keys were written. A key that is already known to be wrong there is
// not judged again.
func judge(places map[string]spot, violations isthmusv1.Violations, known []Problem) []Problem {
	wrong := map[spot]bool{}
	for _, p := range known {
		if p.Severity == SeverityError {
			wrong[spot{p.File, p.Line, p.Key}] = true
		}
	}
	var out []Problem
	for _, v := range violations {
		at := nearest(places, v.Path)
		at.key = shorten(at.key)
		if !wrong[at] {
			out = append(out, Problem{File: at.file, Line: at.line, Key: at.key, Severity: SeverityError, Problem: v.Text, Fix: v.Fix})
		}
	}
	return out
}

// nearest finds the place of a path, or of the nearest part around it that was
// written: a key that is missing is reported at what it is missing from.
func nearest(places map[string]spot, path string) spot {
	for {
		if s, ok := places[path]; ok {
			return s
		}
		if path == "" {
			return spot{line: 1}
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// object decodes an object by its schema. Keys are matched without case, with
// or without underscores.
func (d *decoder) object(c cursor, fields schema) {
	if c.kind != objectNode {
		d.refuse(c, fmt.Sprintf("an object belongs here, not %s", c.kind), "write keys and values")
		return
	}
	seen := map[string]int{}
	for _, f := range c.fields {
		if d.full() {
			return
		}
		name, known := fields.lookup(f.key)
		next := c.field(f, name)
		if !known {
			fix := "remove it"
			if near := suggest(f.key, slices.Sorted(maps.Keys(fields))); near != "" {
				fix = fmt.Sprintf("did you mean %s?", near)
			}
			d.refuse(next, fmt.Sprintf("unknown key %q", shorten(f.key)), fix)
			continue
		}
		if first, twice := seen[name]; twice {
			d.refuse(next, fmt.Sprintf("key %q stands twice, first on line %d", shorten(f.key), first), "keep one of them")
			continue
		}
		seen[name] = f.line
		d.mark(next)
		fields[name](next)
	}
}

// lookup finds a key as people write it: mesh_gateway, MeshGateway, MESHGATEWAY.
func (s schema) lookup(key string) (string, bool) {
	lower := strings.ToLower(key)
	if _, ok := s[lower]; ok {
		return lower, true
	}
	if strings.Contains(lower, "_") {
		return lower, false
	}
	for name := range s {
		if squeezesTo(name, lower) {
			return name, true
		}
	}
	return lower, false
}

// squeezesTo reports whether a name without its underscores is the other text.
func squeezesTo(name, text string) bool {
	i := 0
	for j := range len(name) {
		if name[j] == '_' {
			continue
		}
		if i == len(text) || text[i] != name[j] {
			return false
		}
		i++
	}
	return i == len(text)
}

func (c cursor) field(f field, name string) cursor {
	return cursor{node: f.value, key: join(c.key, f.key), path: join(c.path, name), line: f.line}
}

func (c cursor) item(i int) cursor {
	at := fmt.Sprintf("[%d]", i)
	return cursor{node: c.items[i], key: c.key + at, path: c.path + at, line: c.items[i].line}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unwrap returns the object that stands here. YAML and JSON made from HCL wrap
// objects into lists of one; null and an empty list are nothing.
func (d *decoder) unwrap(c cursor) (cursor, bool) {
	switch {
	case c.kind == nullNode, c.kind == listNode && len(c.items) == 0:
		return c, false
	case c.kind == listNode && len(c.items) == 1:
		c.node = c.items[0]
	case c.kind == listNode:
		c.line = c.items[1].line
		d.refuse(c, fmt.Sprintf("%d values stand where one belongs", len(c.items)), "keep one of them")
		return c, false
	}
	if c.kind != objectNode {
		d.refuse(c, fmt.Sprintf("an object belongs here, not %s", c.kind), "write keys and values")
		return c, false
	}
	return c, true
}

// sequence returns the items that stand here; a single object is a list of one.
func (c cursor) sequence() []cursor {
	switch c.kind {
	case nullNode:
		return nil
	case listNode:
		out := make([]cursor, len(c.items))
		for i := range c.items {
			out[i] = c.item(i)
		}
		return out
	}
	only := c
	only.path += "[0]"
	return []cursor{only}
}

// part decodes an object into a message of its own, which stays absent when the
// object says nothing.
func part[T any](d *decoder, dst **T, fields func(*T) schema) func(cursor) {
	return func(c cursor) {
		whole(d, dst, fields)(c)
		if m, ok := any(*dst).(proto.Message); ok && *dst != nil && proto.Size(m) == 0 {
			*dst = nil
		}
	}
}

// whole is part for objects whose presence alone has a meaning.
func whole[T any](d *decoder, dst **T, fields func(*T) schema) func(cursor) {
	return func(c cursor) {
		c, ok := d.unwrap(c)
		if !ok {
			return
		}
		m := new(T)
		d.object(c, fields(m))
		*dst = m
	}
}

// list decodes a list of objects.
func list[T any](d *decoder, dst *[]*T, fields func(*T) schema) func(cursor) {
	return func(c cursor) {
		for _, item := range c.sequence() {
			d.mark(item)
			m := new(T)
			d.object(item, fields(m))
			*dst = append(*dst, m)
		}
	}
}

// named decodes an object whose keys are names that people choose.
func (d *decoder) named(each func(name string, c cursor)) func(cursor) {
	return func(c cursor) {
		c, ok := d.unwrap(c)
		if !ok {
			return
		}
		seen := map[string]int{}
		for _, f := range c.fields {
			next := c.field(f, f.key)
			if first, twice := seen[f.key]; twice {
				d.refuse(next, fmt.Sprintf("key %q stands twice, first on line %d", shorten(f.key), first), "keep one of them")
				continue
			}
			seen[f.key] = f.line
			d.mark(next)
			each(f.key, next)
		}
	}
}

// nested decodes an object whose keys belong to the message around it.
func (d *decoder) nested(fields schema) func(cursor) {
	return func(c cursor) {
		if c, ok := d.unwrap(c); ok {
			d.object(c, fields)
		}
	}
}

// accepted takes a key that has no meaning for what Isthmus does, like a token.
// Its value is never looked at and never kept.
func accepted(cursor) {}
