package definition

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// opaqueObject keeps an object whole, as canonical JSON: sorted keys, no
// spaces, numbers in decimal. Equal content gives equal bytes from every
// format. An empty object is nothing.
func (d *decoder) opaqueObject(dst *[]byte) func(cursor) {
	return func(c cursor) {
		c, ok := d.unwrap(c)
		if !ok || len(c.fields) == 0 {
			return
		}
		*dst = d.canonical(nil, c)
	}
}

func (d *decoder) canonical(out []byte, c cursor) []byte {
	switch c.kind {
	case objectNode:
		return d.canonicalObject(out, c)
	case listNode:
		out = append(out, '[')
		for i := range c.items {
			if i > 0 {
				out = append(out, ',')
			}
			out = d.canonical(out, c.item(i))
		}
		return append(out, ']')
	case textNode:
		return appendText(out, c.node.text)
	case nullNode:
		return append(out, "null"...)
	}
	return append(out, c.node.text...)
}

func (d *decoder) canonicalObject(out []byte, c cursor) []byte {
	fields := slices.Clone(c.fields)
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.key, b.key) })
	out = append(out, '{')
	for i, f := range fields {
		next := c.field(f, f.key)
		if i > 0 {
			if before := fields[i-1]; before.key == f.key {
				d.refuse(next, fmt.Sprintf("key %q stands twice, first on line %d", shorten(f.key), before.line), "keep one of them")
				continue
			}
			out = append(out, ',')
		}
		d.mark(next)
		out = append(appendText(out, f.key), ':')
		out = d.canonical(out, next)
	}
	return append(out, '}')
}

// appendText writes a text as JSON, without the escapes that only HTML needs.
func appendText(out []byte, text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// Encoding a string into memory cannot fail.
	_ = e.Encode(text)
	return append(out, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
