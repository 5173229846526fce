package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// fact is one thing that the demo states, and whether it was so.
type fact struct {
	// Name is short and stable, like "api goes remote".
	Name string
	// Holds: what was measured is what is stated.
	Holds bool
	// Sentence says it for people, with what was measured.
	Sentence string
	// Drawing stands under the sentence, such as the path that bytes took.
	Drawing []string
	// Saw is what was seen instead, when it does not hold.
	Saw string
	// Values are what was measured, in the order in which they are shown.
	Values []measured
}

// measured is one measured value of a fact, by its name in JSON.
type measured struct {
	Name  string
	Value any
}

// MarshalJSON gives {"fact": …, "ok": …, measured values…}.
func (f fact) MarshalJSON() ([]byte, error) {
	fields := append([]measured{{"fact", f.Name}, {"ok", f.Holds}, {"sentence", f.Sentence}}, f.Values...)
	if !f.Holds {
		fields = append(fields, measured{"saw", f.Saw})
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, field := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(field.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(field.Value)
		if err != nil {
			return nil, fmt.Errorf("value %q of the fact %q: %w", field.Name, f.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// factPrinter shows facts: as text at once, as JSON in one array at the end.
type factPrinter struct {
	out  io.Writer
	json bool
	all  []fact
}

// show prints or keeps one fact.
func (p *factPrinter) show(f fact) {
	p.all = append(p.all, f)
	if p.json {
		return
	}
	mark := "✓"
	if !f.Holds {
		mark = "✗"
	}
	fmt.Fprintf(p.out, "%s %s\n", mark, f.Sentence)
	for _, line := range f.Drawing {
		fmt.Fprintln(p.out, strings.TrimRight("    "+line, " "))
	}
	if !f.Holds {
		fmt.Fprintf(p.out, "    seen instead: %s\n", f.Saw)
	}
}

// text shows what is not a fact: headings and drawings. JSON leaves it out.
func (p *factPrinter) text(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.out, format, args...)
	}
}

// close ends the output.
func (p *factPrinter) close() error {
	if !p.json {
		return nil
	}
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(p.all)
}
