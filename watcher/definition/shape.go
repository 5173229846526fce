package definition

import (
	"fmt"
	"slices"
	"strings"
)

// shape says what an object may hold that is kept as JSON. Its keys are checked
// and respelled in snake_case, so that one content has one text however it was
// written.
type shape struct {
	// fields of an object; nil: any value.
	fields map[string]shape
	// many: a list of such objects.
	many bool
	// opaque: an object with whatever keys, kept as they are.
	opaque bool
	// legal are the texts that may stand here; nil: all.
	legal []string
}

var (
	loadBalancerShape = shape{fields: map[string]shape{
		"policy":               {legal: []string{"random", "round_robin", "least_request", "ring_hash", "maglev"}},
		"ring_hash_config":     {fields: map[string]shape{"minimum_ring_size": {}, "maximum_ring_size": {}}},
		"least_request_config": {fields: map[string]shape{"choice_count": {}}},
		"hash_policies": {many: true, fields: map[string]shape{
			"field": {legal: []string{"header", "cookie", "query_parameter"}}, "field_value": {}, "source_ip": {}, "terminal": {},
			"cookie_config": {fields: map[string]shape{"session": {}, "ttl": {}, "path": {}}},
		}},
	}}
	rateLimitsShape = shape{fields: map[string]shape{"instance_level": {fields: map[string]shape{
		"requests_per_second": {}, "requests_max_burst": {},
		"routes": {many: true, fields: map[string]shape{
			"path_exact": {}, "path_prefix": {}, "path_regex": {}, "requests_per_second": {}, "requests_max_burst": {},
		}},
	}}}}
	destinationShape     = shape{fields: map[string]shape{"addresses": {}, "port": {}}}
	envoyExtensionsShape = shape{many: true, fields: map[string]shape{
		"name": {}, "required": {}, "arguments": {opaque: true}, "consul_version": {}, "envoy_version": {},
	}}
)

// shaped keeps a value of a shape whole, as canonical JSON. What is empty is
// nothing.
func (d *decoder) shaped(dst *[]byte, s shape) func(cursor) {
	return func(c cursor) {
		c.node = d.reshape(c, s)
		if len(c.fields) > 0 || len(c.items) > 0 {
			*dst = d.canonical(nil, c)
		}
	}
}

// reshape returns the value with its keys respelled and without what is null.
func (d *decoder) reshape(c cursor, s shape) *node {
	switch {
	case s.opaque:
		c, _ = d.unwrap(c)
		return c.node
	case s.fields == nil:
		d.legal(c, s.legal)
		return c.node
	case s.many:
		n := &node{kind: listNode, line: c.node.line, column: c.node.column}
		for _, item := range c.sequence() {
			n.items = append(n.items, d.reshape(item, shape{fields: s.fields}))
		}
		return n
	}
	n := &node{kind: objectNode, line: c.node.line, column: c.node.column}
	fields := schema{}
	for key, inner := range s.fields {
		fields[key] = func(c cursor) {
			if value := d.reshape(c, inner); value.kind != nullNode {
				n.fields = append(n.fields, field{key: key, line: c.line, value: value})
			}
		}
	}
	if c, ok := d.unwrap(c); ok {
		d.object(c, fields)
	}
	return n
}

// legal refuses a text that is none of those that may stand here.
func (d *decoder) legal(c cursor, texts []string) {
	if texts == nil {
		return
	}
	text, ok := d.asText(c)
	if !ok || text == "" || slices.Contains(texts, text) {
		return
	}
	fix := "use one of " + strings.Join(texts, ", ")
	if near := suggest(text, texts); near != "" {
		fix = fmt.Sprintf("did you mean %s?", near)
	}
	d.refuse(c, fmt.Sprintf("Invalid %s: %q", c.path[strings.LastIndexByte(c.path, '.')+1:], shorten(text)), fix)
}
