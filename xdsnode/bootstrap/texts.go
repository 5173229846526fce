package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// parts are elements of a list of the bootstrap.
type parts []json.RawMessage

// joined are the elements with commas between them, as templates put them in.
func (p parts) joined() string {
	var out []string
	for _, part := range p {
		out = append(out, string(part))
	}
	return strings.Join(out, ",\n")
}

// objects are what the text holds: one object, several by commas as Consul's users write
// them (Consul command/connect/envoy/bootstrap_config.go), or a list.
func (j JSON) objects() (parts, error) {
	if strings.TrimSpace(j.Text) == "" {
		return nil, nil
	}
	var out parts
	text, before := j.Text, 0
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		text, before = "["+text+"]", 1
	}
	rest, err := decode(text, &out)
	switch {
	case err != nil:
		return nil, j.wrong(err, before)
	case rest >= 0:
		return nil, j.wrongAt(rest-before, "there is more behind it")
	}
	for i, part := range out {
		if !isObject(part) {
			return nil, fmt.Errorf("%s: %w: its part %d is not an object", j.From, ErrJSON, i+1)
		}
	}
	return out, nil
}

// object is the one object that the text holds; nil for none.
func (j JSON) object() (json.RawMessage, error) {
	if strings.TrimSpace(j.Text) == "" {
		return nil, nil
	}
	var out json.RawMessage
	rest, err := decode(j.Text, &out)
	switch {
	case err != nil:
		return nil, j.wrong(err, 0)
	case rest >= 0:
		return nil, j.wrongAt(rest, "there is more behind it")
	case !isObject(out):
		return nil, fmt.Errorf("%s: %w: it is not an object", j.From, ErrJSON)
	}
	return out, nil
}

func isObject(text json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) }

// decode reads one value, and returns where something follows it; below 0: nothing does.
func decode(text string, into any) (rest int, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(into); err != nil {
		return 0, err
	}
	at := int(d.InputOffset())
	if trailing := strings.TrimSpace(text[at:]); trailing != "" {
		return strings.Index(text[at:], trailing) + at, nil
	}
	return -1, nil
}

// wrong says where a text is no JSON; before is what was put before it.
func (j JSON) wrong(err error, before int) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return j.wrongAt(int(syntax.Offset)-1-before, syntax.Error())
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return j.wrongAt(len(j.Text), "it ends too early")
	}
	return fmt.Errorf("%s: %w: %w", j.From, ErrJSON, err)
}

// wrongAt names the place of a byte, by its offset and by line and column.
func (j JSON) wrongAt(offset int, what string) error {
	offset = max(0, min(offset, len(j.Text)))
	before := j.Text[:offset]
	line := strings.Count(before, "\n") + 1
	column := offset - (strings.LastIndex(before, "\n") + 1) + 1
	return fmt.Errorf("%s: %w: line %d, column %d (offset %d): %s", j.From, ErrJSON, line, column, offset, what)
}
