package definition

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// kind is what a node of the tree is.
type kind int

const (
	objectNode kind = iota + 1
	listNode
	textNode
	numberNode
	boolNode
	nullNode
)

// String names the kind for people.
func (k kind) String() string {
	return [...]string{"nothing", "an object", "a list", "a text", "a number", "true or false", "null"}[k]
}

// node is one value of a file, whatever the file is written in.
type node struct {
	kind kind
	// line and column are where it begins, from 1.
	line, column int
	// fields of an object, in the order written. A key may stand twice: the
	// decoder refuses it where it knows what the key is.
	fields []field
	// items of a list.
	items []*node
	// text of a text; a number in decimal notation; true or false.
	text string
	// literal is a number as it was written.
	literal string
}

// field is one key of an object.
type field struct {
	key          string
	line, column int
	value        *node
	// form tells how HCL wrote it, as blocks of one name are joined.
	form form
}

// form is how a field was written.
type form int

const (
	assigned form = iota
	block
	labeled
)

// fault is what makes a whole file unreadable.
type fault struct {
	line         int
	problem, fix string
}

// reader turns bytes into the values of a file: one of an HCL or JSON file, one
// per document of a YAML file.
type reader func(data []byte) ([]*node, *fault)

// setNumber makes the node a number if the text is one that can be told
// exactly enough: an integer of 64 bits, or a finite float.
func (n *node) setNumber(text string) error {
	n.kind, n.literal = numberNode, text
	digits := strings.ReplaceAll(text, "_", "")
	if i, err := strconv.ParseInt(digits, 0, 64); err == nil {
		n.text = strconv.FormatInt(i, 10)
		return nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Errorf("%s is not a number in range", shorten(text))
	}
	if !strings.ContainsAny(digits, ".eExXpP") {
		return fmt.Errorf("%s is not an integer of 64 bits", shorten(text))
	}
	if whole := int64(f); math.Abs(f) < 1<<53 && float64(whole) == f {
		n.text = strconv.FormatInt(whole, 10)
		return nil
	}
	n.text = strconv.FormatFloat(f, 'g', -1, 64)
	return nil
}

// shorten keeps what a file says readable in a problem.
func shorten(text string) string {
	const most = 120
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
