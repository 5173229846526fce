package definition

import (
	"fmt"

	"github.com/hashicorp/go-bexpr"
)

// The bounds of filters. Their parser tries alternatives and grows steeply with
// nesting, so one filter may cost a bounded number of its steps, and so may all
// filters of a file together.
const (
	maxFilter = 4 << 10
	// simpleFilter is enough for a comparison or two, maxFilterSteps for what
	// people write.
	simpleFilter   = 1_000
	maxFilterSteps = 20_000
	// maxFileSteps is for a thousand simple filters, or fifty that are as costly
	// as they may be. Equal filters count once.
	maxFileSteps = 1_000_000
)

// filters remembers what the filters of a file came to.
type filters struct {
	known map[string]error
	steps int
}

// filter reads a boolean expression over instances.
func (d *decoder) filter(dst *string) func(cursor) {
	return func(c cursor) {
		d.text(dst)(c)
		if *dst == "" {
			return
		}
		if len(*dst) > maxFilter {
			d.refuse(c, fmt.Sprintf("the filter is longer than %d bytes", maxFilter), "shorten it")
			return
		}
		err, known := d.filters.known[*dst]
		switch {
		case known:
		case d.filters.steps >= maxFileSteps:
			d.refuse(c, "the filters of this file are too many or too deeply nested to be checked", "spread the entries over several files")
			return
		default:
			err = d.filters.parse(*dst)
		}
		if err != nil {
			d.refuse(c, fmt.Sprintf("%q is not a filter: %s", shorten(*dst), shorten(err.Error())), `write an expression like Service.Meta.version == "2"`)
		}
	}
}

// parse tries a filter: first as one of the many that are simple.
func (f *filters) parse(text string) error {
	f.steps += simpleFilter
	err := parseFilter(text, simpleFilter)
	if err != nil {
		f.steps += maxFilterSteps
		err = parseFilter(text, maxFilterSteps)
	}
	if f.known == nil {
		f.known = map[string]error{}
	}
	f.known[text] = err
	return err
}

// parseFilter tries the expression; a panic of its parser is an error too.
func parseFilter(text string, steps uint64) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it cannot be read: %v", cause)
		}
	}()
	_, err = bexpr.CreateEvaluator(text, bexpr.WithMaxExpressions(steps))
	return err
}
