package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// differ collects what differs in one resource.
type differ struct {
	Difference
	found []Difference
}

func (d *differ) add(field, ours, theirs string) {
	one := d.Difference
	one.Field, one.Ours, one.Theirs = field, ours, theirs
	d.found = append(d.found, one)
}

// whole compares two resources; nil is one that is not there.
func (d *differ) whole(a, b *node) {
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.add("", "", there)
	case b == nil:
		d.add("", there, "")
	default:
		d.nodes("", a, b)
	}
}

// nodes compares two nodes; nil is one that is not there.
func (d *differ) nodes(field string, a, b *node) {
	switch {
	case a == nil || b == nil:
		d.oneSided(field, a, b)
	case a.kind != b.kind || a.kind == scalar && a.text != b.text:
		d.add(field, a.String(), b.String())
	case a.kind == object:
		for _, name := range keysOf(a.fields, b.fields) {
			d.nodes(join(field, name), a.fields[name], b.fields[name])
		}
	case a.kind == list:
		d.lists(field, a, b)
	}
}

// oneSided lists what is there on one side only, field by field, so that each can be
// told apart. An item of a list is one thing.
func (d *differ) oneSided(field string, a, b *node) {
	present := a
	if a == nil {
		present = b
	}
	if present.kind == object && len(present.fields) > 0 {
		for _, name := range slices.Sorted(maps.Keys(present.fields)) {
			if a == nil {
				d.oneSided(join(field, name), nil, b.fields[name])
			} else {
				d.oneSided(join(field, name), a.fields[name], nil)
			}
		}
		return
	}
	if a == nil {
		d.add(field, "", b.String())
	} else {
		d.add(field, a.String(), "")
	}
}

// lists compares items by their keys, and the order of those that both have.
func (d *differ) lists(field string, a, b *node) {
	ours, theirs := a.byKey(), b.byKey()
	for _, key := range keysOf(ours, theirs) {
		at := field + "[" + key + "]"
		switch {
		case ours[key] == nil:
			d.add(at, "", theirs[key].String())
		case theirs[key] == nil:
			d.add(at, ours[key].String(), "")
		default:
			d.nodes(at, ours[key], theirs[key])
		}
	}
	if !a.ordered && !b.ordered {
		return
	}
	common := func(keys []string, others map[string]*node) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return others[k] == nil }), ", ")
	}
	if x, y := common(a.keys, theirs), common(b.keys, ours); x != y {
		d.add(join(field, "(order)"), x, y)
	}
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// String is a node in one line.
func (n *node) String() string {
	switch n.kind {
	case object:
		parts := make([]string, 0, len(n.fields))
		for _, name := range slices.Sorted(maps.Keys(n.fields)) {
			parts = append(parts, name+": "+n.fields[name].String())
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case list:
		parts := make([]string, len(n.items))
		for i, item := range n.items {
			parts[i] = item.String()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if n.text == "" {
		return `""` // An empty field is nothing that is not there.
	}
	return n.text
}

// number makes the keys of a list different from each other.
func number(keys []string) []string {
	seen := map[string]int{}
	for i, key := range keys {
		seen[key]++
		if n := seen[key]; n > 1 {
			keys[i] = fmt.Sprintf("%s#%d", key, n)
		}
	}
	return keys
}
