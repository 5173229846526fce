package definition

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// draftEntry is a config entry and where its keys stand.
type draftEntry struct {
	entry  *isthmusv1.ConfigEntry
	places map[string]spot
	broken bool
}

// body says how the keys of one kind of entry are read into it.
type body func(d *decoder, e *isthmusv1.ConfigEntry) schema

// bodies are the kinds that Isthmus serves.
var bodies = map[string]body{
	isthmusv1.EntryProxyDefaults:     (*decoder).proxyDefaults,
	isthmusv1.EntryServiceDefaults:   (*decoder).serviceDefaults,
	isthmusv1.EntryServiceResolver:   (*decoder).serviceResolver,
	isthmusv1.EntryServiceSplitter:   (*decoder).serviceSplitter,
	isthmusv1.EntryServiceRouter:     (*decoder).serviceRouter,
	isthmusv1.EntryServiceIntentions: (*decoder).serviceIntentions,
	isthmusv1.EntryMesh:              (*decoder).mesh,
	isthmusv1.EntryExportedServices:  (*decoder).exportedServices,
}

// unserved are the kinds that Consul has and Isthmus keeps without serving.
var unserved = []string{
	"api-gateway", "bound-api-gateway", "control-plane-request-limit", "file-system-certificate",
	"http-route", "ingress-gateway", "inline-certificate", "jwt-provider", "sameness-group",
	"tcp-route", "terminating-gateway",
}

// secrets are unserved kinds that may hold a private key, and so are never kept.
var secrets = []string{"inline-certificate"}

// entry decodes one config entry.
func (d *decoder) entry(c cursor) *draftEntry {
	before, errors := len(d.problems), d.errors
	c = d.fresh(c)
	kind, at, ok := d.kindOf(c)
	if !ok {
		return nil
	}
	e := &isthmusv1.ConfigEntry{Kind: kind}
	switch {
	case slices.Contains(secrets, kind):
		d.warn(at, fmt.Sprintf("entries of kind %s are not supported", kind), "nothing to do: it is ignored, and its key is not kept")
		return nil
	case slices.Contains(unserved, kind):
		d.warn(at, fmt.Sprintf("entries of kind %s are not supported", kind), "nothing to do: it is kept and has no effect")
		d.unservedEntry(c, e)
	case bodies[kind] == nil:
		d.unknownKind(at, kind)
		return nil
	default:
		fields := bodies[kind](d, e)
		maps.Copy(fields, d.common(e))
		for _, name := range []string{"service", "services"} {
			if _, own := fields[name]; !own {
				fields[name] = d.misplaced("put it into another file")
			}
		}
		d.object(c, fields)
		complete(e)
	}
	for _, p := range judge(d.places, e.Validate(), d.problems[before:]) {
		d.report(p.Severity, p.Line, p.Key, p.Problem, p.Fix)
	}
	return &draftEntry{entry: e, places: d.places, broken: d.errors > errors}
}

// kindOf reads the key that decides how to read all others.
func (d *decoder) kindOf(c cursor) (string, cursor, bool) {
	for _, f := range c.fields {
		if strings.EqualFold(f.key, "kind") {
			at := c.field(f, "kind")
			kind, ok := d.asText(at)
			return kind, at, ok
		}
	}
	d.refuse(c, "the entry has no kind", `give kind, like "service-defaults"`)
	return "", c, false
}

func (d *decoder) unknownKind(at cursor, kind string) {
	fix := "use one of " + strings.Join(slices.Sorted(maps.Keys(bodies)), ", ")
	if slices.Contains([]string{"connect-proxy", "mesh-gateway"}, kind) {
		fix = "put a service definition into service { }"
	} else if near := suggest(kind, slices.Concat(slices.Sorted(maps.Keys(bodies)), unserved)); near != "" {
		fix = fmt.Sprintf("did you mean %s?", near)
	}
	d.refuse(at, fmt.Sprintf("unknown kind %q of config entry", shorten(kind)), fix)
}

// common are the keys of every entry. Those that only Consul writes are taken
// so that what it prints can be used as it is.
func (d *decoder) common(e *isthmusv1.ConfigEntry) schema {
	return schema{
		"kind": accepted, "name": d.text(&e.Name), "namespace": d.text(&e.Namespace),
		"partition": d.text(&e.Partition), "meta": d.pairs(&e.Meta),
		"create_index": accepted, "modify_index": accepted, "hash": accepted,
	}
}

func (d *decoder) unservedEntry(c cursor, e *isthmusv1.ConfigEntry) {
	rest := cursor{node: &node{kind: objectNode, line: c.node.line, column: c.node.column}, key: c.key, path: c.path, line: c.line}
	own := d.common(e)
	head := rest
	head.node = &node{kind: objectNode, line: c.node.line, column: c.node.column}
	for _, f := range c.fields {
		if _, known := own.lookup(f.key); known {
			head.fields = append(head.fields, f)
		} else {
			rest.fields = append(rest.fields, f)
		}
	}
	d.object(head, own)
	whole := d.canonical(nil, rest)
	e.Entry = &isthmusv1.ConfigEntry_UnsupportedJson{UnsupportedJson: whole}
}

// complete fills what may be left out.
func complete(e *isthmusv1.ConfigEntry) {
	switch e.GetKind() {
	case isthmusv1.EntryProxyDefaults:
		e.Name = cmp.Or(e.Name, isthmusv1.ProxyDefaultsName)
	case isthmusv1.EntryMesh:
		e.Name = cmp.Or(e.Name, isthmusv1.MeshName)
	case isthmusv1.EntryExportedServices:
		e.Name = cmp.Or(e.Name, e.Partition, isthmusv1.DefaultName)
	}
}
