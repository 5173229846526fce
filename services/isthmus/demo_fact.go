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
	// err is the first error of writing.
	err error
}

// show prints or keeps one fact.
func (p *factPrinter) show(f fact) error {
	p.all = append(p.all, f)
	if f.Holds {
		p.text("✓ %s\n", f.Sentence)
		for _, line := range f.Drawing {
			p.text("%s\n", strings.TrimRight("    "+line, " "))
		}
	} else { // What is drawn did not happen.
		p.text("✗ %s\n    seen instead: %s\n", f.Sentence, f.Saw)
	}
	return p.err
}

// text shows what is not a fact: headings and drawings. JSON leaves it out.
func (p *factPrinter) text(format string, args ...any) {
	if !p.json && p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

// close ends the output.
func (p *factPrinter) close() error {
	if !p.json {
		return nil
	}
	if p.all == nil {
		p.all = []fact{} // An array in any case.
	}
	return printJSON(p.out, p.all)
}
