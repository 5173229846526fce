package definition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// readYAML reads the documents of a YAML file. The library's nodes keep places
// and duplicate keys and do not expand aliases; here each expansion is counted.
func readYAML(data []byte) ([]*node, *fault) {
	if f := guardYAML(data); f != nil {
		return nil, f
	}
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var roots []*node
	var w yamlWalker
	for {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, yamlFault(err)
		}
		root, f := w.value(&document, 0)
		if f != nil {
			return nil, f
		}
		if root.kind != nullNode {
			roots = append(roots, root)
		}
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlFault finds the line in the library's message.
func yamlFault(err error) *fault {
	match := yamlLine.FindStringSubmatch(err.Error())
	if match == nil {
		return syntax(1, "YAML", err)
	}
	line, _ := strconv.Atoi(match[1])
	return syntax(line, "YAML", errors.New(err.Error()[len(match[0]):]))
}

// yamlWalker turns the library's nodes into ours.
type yamlWalker struct{ spent budget }

func (w *yamlWalker) value(y *yaml.Node, depth int) (*node, *fault) {
	line := max(y.Line, 1)
	if f := w.spent.spend(line, depth); f != nil {
		return nil, f
	}
	n := &node{line: line, column: max(y.Column, 1)}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 0 {
			n.kind = nullNode
			return n, nil
		}
		return w.value(y.Content[0], depth)
	case yaml.AliasNode:
		return w.value(y.Alias, depth+1)
	case yaml.SequenceNode:
		return n, w.list(n, y, depth)
	case yaml.MappingNode:
		return n, w.object(n, y, depth)
	case yaml.ScalarNode:
		return n, scalar(n, y)
	}
	n.kind = nullNode
	return n, nil
}

func (w *yamlWalker) list(n *node, y *yaml.Node, depth int) *fault {
	n.kind = listNode
	for _, c := range y.Content {
		item, f := w.value(c, depth+1)
		if f != nil {
			return f
		}
		n.items = append(n.items, item)
	}
	return nil
}

func (w *yamlWalker) object(n *node, y *yaml.Node, depth int) *fault {
	n.kind = objectNode
	own := map[string]bool{}
	var merges []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		value, f := w.value(y.Content[i+1], depth+1)
		if f != nil {
			return f
		}
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			what := objectNode
			if k.Kind == yaml.SequenceNode {
				what = listNode
			}
			return &fault{max(k.Line, 1), "a key is a text, not " + what.String(), "write the key as a text"}
		}
		if k.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		own[k.Value] = true
		n.fields = append(n.fields, field{key: k.Value, line: max(k.Line, 1), column: max(k.Column, 1), value: value})
	}
	for _, m := range merges {
		if f := n.merge(m, own); f != nil {
			return f
		}
	}
	return nil
}

// merge adds what <<: brings and the object does not say itself.
func (n *node) merge(m *node, own map[string]bool) *fault {
	switch m.kind {
	case objectNode:
		for _, f := range m.fields {
			if !own[f.key] {
				own[f.key] = true
				n.fields = append(n.fields, f)
			}
		}
		return nil
	case listNode:
		for _, item := range m.items {
			if item.kind != objectNode {
				return &fault{item.line, "<< merges objects, not " + item.kind.String(), "give an alias of an object"}
			}
			if f := n.merge(item, own); f != nil {
				return f
			}
		}
		return nil
	}
	return &fault{m.line, "<< merges objects, not " + m.kind.String(), "give an alias of an object"}
}

func scalar(n *node, y *yaml.Node) *fault {
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!timestamp":
		n.kind, n.text = textNode, y.Value
	case "!!int", "!!float":
		if err := n.setNumber(y.Value); err != nil {
			return syntax(n.line, "YAML", err)
		}
	case "!!bool":
		var b bool
		if err := y.Decode(&b); err != nil {
			return syntax(n.line, "YAML", err)
		}
		n.kind, n.text = boolNode, fmt.Sprint(b)
	case "!!null":
		n.kind = nullNode
	default:
		return &fault{n.line, fmt.Sprintf("the YAML tag %s has no meaning here", shorten(tag)), "leave out the tag"}
	}
	return nil
}
