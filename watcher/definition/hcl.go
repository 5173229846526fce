package definition

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	"github.com/hashicorp/hcl/hcl/token"
)

// maxHeredocs bounds what each here-document costs: a regular expression.
const maxHeredocs = 2_000

// readHCL reads HCL version 1, the only one that reads Consul's files. The
// library merges repeated keys and forgets where they stood, so its syntax tree
// is walked instead of its decoded values.
func readHCL(data []byte) ([]*node, *fault) {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if start := bytes.TrimSpace(data); len(start) > 0 && start[0] == '{' {
		return nil, &fault{lineAt(data, bytes.IndexByte(data, '{')), "this is JSON, not HCL", "name the file .json"}
	}
	if f := guardHCL(data); f != nil {
		return nil, f
	}
	file, err := parser.ParseDontErrorOnDuplicateKeys(data)
	if err != nil {
		var at *parser.PosError
		if errors.As(err, &at) {
			return nil, syntax(at.Pos.Line, "HCL", at.Err)
		}
		return nil, syntax(1, "HCL", err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, &fault{1, "not valid HCL: no keys", "write keys and blocks"}
	}
	var w hclWalker
	root, f := w.object(list, token.Pos{Line: 1, Column: 1}, 0)
	if f != nil {
		return nil, f
	}
	return []*node{root}, nil
}

// guardHCL walks the tokens, of which there is a bounded number, before the
// parser, whose time and stack grow with their nesting. It uses the library's
// own scanner, so that the two never differ on what is text and what is a
// bracket. It also finds what the parser passes over: a file that ends after =.
func guardHCL(data []byte) *fault {
	var broken *fault
	s := scanner.New(data)
	s.Error = func(at token.Pos, message string) {
		if broken == nil {
			broken = syntax(at.Line, "HCL", errors.New(message))
		}
	}
	depth, heredocs := 0, 0
	last := token.Token{}
	for {
		t := s.Scan()
		if broken != nil {
			return broken
		}
		switch t.Type {
		case token.EOF:
			if last.Type == token.ASSIGN {
				return &fault{last.Pos.Line, "not valid HCL: the file ends after =", "write the value"}
			}
			return nil
		case token.LBRACE, token.LBRACK:
			depth++
		case token.RBRACE, token.RBRACK:
			depth--
		case token.HEREDOC:
			heredocs++
		}
		if depth > maxDepth {
			return tooDeep(t.Pos.Line)
		}
		if heredocs > maxHeredocs {
			return &fault{t.Pos.Line, fmt.Sprintf("the file has more than %d here-documents", maxHeredocs), "split it into several files"}
		}
		if t.Type != token.COMMENT {
			last = t
		}
	}
}

// hclWalker turns a syntax tree into nodes.
type hclWalker struct{ spent budget }

func (w *hclWalker) object(list *ast.ObjectList, at token.Pos, depth int) (*node, *fault) {
	if f := w.spent.spend(at.Line, depth); f != nil {
		return nil, f
	}
	n := &node{kind: objectNode, line: at.Line, column: at.Column}
	index := map[string]int{}
	for _, item := range list.Items {
		if f := w.item(n, index, item.Keys, item, depth); f != nil {
			return nil, f
		}
	}
	return n, nil
}

// item adds one item to an object. Blocks of one name become a list; blocks
// with labels become objects keyed by label: subsets "v1" {} is the same as
// subsets { v1 = {} }.
func (w *hclWalker) item(n *node, index map[string]int, keys []*ast.ObjectKey, item *ast.ObjectItem, depth int) *fault {
	if depth+len(keys) > maxDepth {
		return tooDeep(keys[0].Pos().Line)
	}
	key, f := keyText(keys[0])
	if f != nil {
		return f
	}
	next := field{key: key, line: keys[0].Pos().Line, column: keys[0].Pos().Column}
	if !item.Assign.IsValid() {
		next.form = block
	}
	if len(keys) > 1 {
		next.form = labeled
	}
	i, before := index[key]
	joins := before && next.form != assigned && n.fields[i].form == next.form
	if next.form == labeled {
		return w.labels(n, index, next, keys[1:], item, depth, joins)
	}
	value, f := w.value(item.Val, depth+1)
	if f != nil {
		return f
	}
	if joins {
		first := n.fields[i].value
		if first.kind != listNode {
			first = &node{kind: listNode, line: first.line, column: first.column, items: []*node{first}}
			n.fields[i].value = first
		}
		first.items = append(first.items, value)
		return nil
	}
	next.value = value
	index[key] = len(n.fields)
	n.fields = append(n.fields, next)
	return nil
}

func (w *hclWalker) labels(n *node, index map[string]int, next field, keys []*ast.ObjectKey, item *ast.ObjectItem, depth int, joins bool) *fault {
	if f := w.spent.spend(next.line, depth); f != nil {
		return f
	}
	if !joins {
		next.value = &node{kind: objectNode, line: next.line, column: next.column}
		index[next.key] = len(n.fields)
		n.fields = append(n.fields, next)
	}
	// A label that stands twice stays two fields: the decoder refuses it.
	return w.item(n.fields[index[next.key]].value, map[string]int{}, keys, item, depth+1)
}

func (w *hclWalker) value(val ast.Node, depth int) (*node, *fault) {
	switch val := val.(type) {
	case *ast.ObjectType:
		return w.object(val.List, val.Lbrace, depth)
	case *ast.ListType:
		n := &node{kind: listNode, line: val.Lbrack.Line, column: val.Lbrack.Column}
		if f := w.spent.spend(n.line, depth); f != nil {
			return nil, f
		}
		for _, v := range val.List {
			item, f := w.value(v, depth+1)
			if f != nil {
				return nil, f
			}
			n.items = append(n.items, item)
		}
		return n, nil
	case *ast.LiteralType:
		if f := w.spent.spend(val.Token.Pos.Line, depth); f != nil {
			return nil, f
		}
		return literal(val.Token)
	}
	return nil, &fault{max(val.Pos().Line, 1), "not valid HCL: a value of an unknown form", "write a text, number, list or block"}
}

// keyText is a key without its quotes.
func keyText(key *ast.ObjectKey) (string, *fault) {
	if key.Token.Type != token.STRING {
		return key.Token.Text, nil
	}
	n, f := literal(key.Token)
	if f != nil {
		return "", f
	}
	return n.text, nil
}

// literal reads one token; the library panics on texts that it cannot unquote.
func literal(t token.Token) (n *node, broken *fault) {
	n = &node{line: t.Pos.Line, column: t.Pos.Column}
	defer func() {
		if cause := recover(); cause != nil {
			n, broken = nil, &fault{t.Pos.Line, "not valid HCL: " + shorten(fmt.Sprint(cause)), "check the quotes and escapes"}
		}
	}()
	switch t.Type {
	case token.NUMBER, token.FLOAT:
		if err := n.setNumber(t.Text); err != nil {
			return nil, syntax(t.Pos.Line, "HCL", err)
		}
	case token.BOOL:
		n.kind, n.text = boolNode, t.Text
	default:
		text, ok := t.Value().(string)
		if !ok {
			return nil, &fault{t.Pos.Line, "not valid HCL: a value of an unknown form", "write a text, number, list or block"}
		}
		n.kind, n.text = textNode, text
	}
	return n, nil
}
