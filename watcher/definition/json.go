package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readJSON reads one JSON value token by token: the standard library's decoder
// would forget places and duplicate keys.
func readJSON(data []byte) ([]*node, *fault) {
	r := &jsonReader{data: data, tokens: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.tokens.UseNumber()
	t, line, column, f := r.next()
	if f != nil {
		return nil, f
	}
	root, f := r.value(t, line, column, 0)
	if f != nil {
		return nil, f
	}
	if _, err := r.tokens.Token(); !errors.Is(err, io.EOF) {
		return nil, &fault{r.position(), "not valid JSON: something follows the value", "put several values into one array"}
	}
	return []*node{root}, nil
}

// jsonReader is a place in a JSON text.
type jsonReader struct {
	data   []byte
	tokens *json.Decoder
	spent  budget
	// offset was looked at up to here; line is its line, newline the offset at
	// which that line begins.
	offset, line, newline int
}

// position moves to the begin of the next token and returns its line.
func (r *jsonReader) position() int {
	end := int(r.tokens.InputOffset())
	for end < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[end]) >= 0 {
		end++
	}
	for ; r.offset < end; r.offset++ {
		if r.data[r.offset] == '\n' {
			r.line++
			r.newline = r.offset + 1
		}
	}
	return r.line
}

func (r *jsonReader) next() (json.Token, int, int, *fault) {
	line := r.position()
	column := r.offset - r.newline + 1
	t, err := r.tokens.Token()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, 0, 0, &fault{lineAt(r.data, len(bytes.TrimRight(r.data, " \t\r\n"))), "not valid JSON: the file ends in the middle of a value", "complete it"}
	case err != nil:
		return nil, 0, 0, syntax(line, "JSON", err)
	}
	return t, line, column, nil
}

func (r *jsonReader) value(t json.Token, line, column, depth int) (*node, *fault) {
	if f := r.spent.spend(line, depth); f != nil {
		return nil, f
	}
	n := &node{line: line, column: column}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return n, r.object(n, depth)
		}
		return n, r.list(n, depth)
	case string:
		n.kind, n.text = textNode, t
	case json.Number:
		if err := n.setNumber(t.String()); err != nil {
			return nil, syntax(line, "JSON", err)
		}
	case bool:
		n.kind, n.text = boolNode, fmt.Sprint(t)
	default:
		n.kind = nullNode
	}
	return n, nil
}

func (r *jsonReader) object(n *node, depth int) *fault {
	n.kind = objectNode
	for {
		t, line, column, f := r.next()
		if f != nil {
			return f
		}
		key, ok := t.(string)
		if !ok {
			return nil
		}
		t, valueLine, valueColumn, f := r.next()
		if f != nil {
			return f
		}
		value, f := r.value(t, valueLine, valueColumn, depth+1)
		if f != nil {
			return f
		}
		n.fields = append(n.fields, field{key: key, line: line, column: column, value: value})
	}
}

func (r *jsonReader) list(n *node, depth int) *fault {
	n.kind = listNode
	for {
		t, line, column, f := r.next()
		if f != nil {
			return f
		}
		if t == json.Delim(']') {
			return nil
		}
		item, f := r.value(t, line, column, depth+1)
		if f != nil {
			return f
		}
		n.items = append(n.items, item)
	}
}
