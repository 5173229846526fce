package definition

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// text reads a text. A number or a boolean in plain notation is taken as it
// stands, as Consul does; 0600 and 0x10 would not come back as written and are
// refused.
func (d *decoder) text(dst *string) func(cursor) {
	return func(c cursor) {
		if text, ok := d.asText(c); ok {
			*dst = text
		}
	}
}

func (d *decoder) asText(c cursor) (string, bool) {
	switch {
	case c.kind == textNode, c.kind == boolNode, c.kind == numberNode && c.literal == c.node.text:
		return c.node.text, true
	case c.kind == nullNode:
		return "", false
	case c.kind == numberNode:
		d.refuse(c, fmt.Sprintf("the number %s would be read as %s, and a text belongs here", shorten(c.literal), c.node.text), "put it in quotes")
	default:
		d.refuse(c, fmt.Sprintf("a text belongs here, not %s", c.kind), "write a text in quotes")
	}
	return "", false
}

// lowered reads a text that Consul folds to lower case.
func (d *decoder) lowered(dst *string) func(cursor) {
	return func(c cursor) {
		d.text(dst)(c)
		*dst = strings.ToLower(*dst)
	}
}

func (d *decoder) texts(dst *[]string) func(cursor) {
	return func(c cursor) {
		for _, item := range c.sequence() {
			d.mark(item)
			if text, ok := d.asText(item); ok {
				*dst = append(*dst, text)
			}
		}
	}
}

// uppered reads a list of texts that Consul folds to upper case.
func (d *decoder) uppered(dst *[]string) func(cursor) {
	return func(c cursor) {
		d.texts(dst)(c)
		for i, text := range *dst {
			(*dst)[i] = strings.ToUpper(text)
		}
	}
}

// pairs reads an object of texts into a sorted list.
func (d *decoder) pairs(dst *[]*isthmusv1.KeyValue) func(cursor) {
	return func(c cursor) {
		d.named(func(name string, c cursor) {
			if text, ok := d.asText(c); ok {
				*dst = append(*dst, &isthmusv1.KeyValue{Key: name, Value: text})
			}
		})(c)
		slices.SortFunc(*dst, func(a, b *isthmusv1.KeyValue) int { return cmp.Compare(a.GetKey(), b.GetKey()) })
	}
}

// flag reads true or false.
func (d *decoder) flag(dst *bool) func(cursor) {
	return func(c cursor) {
		switch {
		case c.kind == nullNode:
		case (c.kind == boolNode || c.kind == textNode) && (c.node.text == "true" || c.node.text == "false"):
			*dst = c.node.text == "true"
		default:
			d.refuse(c, "true or false belongs here", "write true or false")
		}
	}
}

// integer reads a whole number within bounds.
func (d *decoder) integer(c cursor, low, high int64, what string) (int64, bool) {
	if c.kind == nullNode {
		return 0, false
	}
	n, err := strconv.ParseInt(c.node.text, 10, 64)
	if (c.kind != numberNode && c.kind != textNode) || err != nil {
		d.refuse(c, "a whole number belongs here", "write a number without quotes")
		return 0, false
	}
	if n < low || n > high {
		d.refuse(c, fmt.Sprintf("%s %d is out of range", what, n), fmt.Sprintf("use a %s from %d to %d", what, low, high))
		return 0, false
	}
	return n, true
}

func (d *decoder) number(dst *uint32) func(cursor) {
	return func(c cursor) {
		if n, ok := d.integer(c, 0, math.MaxInt32, "number"); ok {
			*dst = uint32(n)
		}
	}
}

func (d *decoder) optional(dst **uint32) func(cursor) {
	return func(c cursor) {
		if n, ok := d.integer(c, 0, math.MaxInt32, "number"); ok {
			value := uint32(n)
			*dst = &value
		}
	}
}

func (d *decoder) numbers(dst *[]uint32) func(cursor) {
	return func(c cursor) {
		for _, item := range c.sequence() {
			d.mark(item)
			if n, ok := d.integer(item, 0, math.MaxInt32, "number"); ok {
				*dst = append(*dst, uint32(n))
			}
		}
	}
}

// port reads a port; 0 is none.
func (d *decoder) port(dst *uint32) func(cursor) {
	return func(c cursor) {
		if c.kind == numberNode && c.node.text == "0" {
			return
		}
		if n, ok := d.integer(c, 1, 65535, "port"); ok {
			*dst = uint32(n)
		}
	}
}

// weight reads a split's weight in percent, to the hundredth.
func (d *decoder) weight(dst *uint32) func(cursor) {
	return func(c cursor) {
		if c.kind == nullNode {
			return
		}
		f, err := strconv.ParseFloat(c.node.text, 64)
		switch {
		case (c.kind != numberNode && c.kind != textNode) || err != nil:
			d.refuse(c, "a number belongs here", "write a number without quotes")
		case !(f >= 0 && f <= 100):
			d.refuse(c, fmt.Sprintf("weight %s is out of range", shorten(c.node.text)), "use a number from 0 to 100")
		default:
			*dst = uint32(math.Round(f * 100))
		}
	}
}

// duration reads "5s", or a whole number of nanoseconds, as Consul does. Zero is
// none.
func (d *decoder) duration(dst **durationpb.Duration) func(cursor) {
	return func(c cursor) {
		var value time.Duration
		switch c.kind {
		case nullNode:
			return
		case numberNode:
			n, ok := d.integer(c, 0, math.MaxInt64, "duration")
			if !ok {
				return
			}
			value = time.Duration(n)
			if value > 0 && value < time.Millisecond {
				d.warn(c, fmt.Sprintf("a number is nanoseconds: this is %s", value), fmt.Sprintf(`write "%ds" for seconds`, n))
			}
		case textNode:
			parsed, err := time.ParseDuration(c.node.text)
			if err != nil {
				d.refuse(c, fmt.Sprintf("%q is not a duration", shorten(c.node.text)), `write a number and a unit, like "5s" or "250ms"`)
				return
			}
			value = parsed
		default:
			d.refuse(c, fmt.Sprintf("a duration belongs here, not %s", c.kind), `write a number and a unit, like "5s"`)
			return
		}
		if value != 0 {
			*dst = durationpb.New(value)
		}
	}
}
