package definition

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// The ports among which a sidecar without one gets the lowest free, as in an
// agent.
const (
	defaultSidecarMin = 21000
	defaultSidecarMax = 21255
)

// loopback is the address of a node that no file gives one.
const loopback = "127.0.0.1"

// host is the node of a directory: what the agent's configurations in it say
// together. The definitions in the directory and below run on it, up to the
// next directory with a node of its own.
type host struct {
	node *isthmusv1.Node
	at   spot
	used bool
	// broken: an error stands in its configuration, so that it does not come out.
	broken bool
	// The configurations that say something about it, in the order of files.
	agents                 []*agent
	sidecarMin, sidecarMax uint32
}

// hosts are the nodes of a datacenter by directory. The datacenter's own
// directory always has one.
type hosts map[string]*host

// hostsOf joins what the agents' configurations say, per directory.
func (b *builder) hostsOf(agents []*agent) hosts {
	out := hosts{".": {}}
	for _, a := range agents {
		if a.at.line == 0 && a.sidecarMin == 0 && a.sidecarMax == 0 {
			continue
		}
		if out[a.directory] == nil {
			out[a.directory] = &host{}
		}
		out[a.directory].agents = append(out[a.directory].agents, a)
	}
	for _, directory := range slices.Sorted(maps.Keys(out)) {
		b.settle(out[directory], directory)
	}
	return out
}

// of returns the node of a file: that of the nearest directory that has one.
func (h hosts) of(directory string) *host {
	for ; ; directory = path.Dir(directory) {
		if found := h[directory]; found != nil {
			return found
		}
		if directory == "." || directory == "/" {
			return h["."]
		}
	}
}

// settle makes the node of a directory.
func (b *builder) settle(h *host, directory string) {
	var name, id, address, wan said
	n := &isthmusv1.Node{}
	for _, a := range h.agents {
		if h.at.line == 0 {
			h.at = a.at
		}
		b.once("node_name", &name, a.name)
		b.once("node_id", &id, a.id)
		b.once("advertise_addr", &address, a.address)
		b.once("advertise_addr_wan", &wan, a.wan)
		h.sidecarMin, h.sidecarMax = cmp.Or(h.sidecarMin, a.sidecarMin), cmp.Or(h.sidecarMax, a.sidecarMax)
		n.Meta = append(n.Meta, a.meta...)
		for _, c := range a.checks {
			if c.service.text == "" {
				n.Checks = append(n.Checks, c.check)
			}
		}
		n.Locality = cmp.Or(n.Locality, a.locality)
		h.broken = h.broken || a.broken
	}
	h.sidecarMin, h.sidecarMax = cmp.Or(h.sidecarMin, defaultSidecarMin), cmp.Or(h.sidecarMax, defaultSidecarMax)
	if name.text == "" && directory != "." && h.at.line != 0 {
		h.broken = true
		b.refuse(h.at, "the directory describes a node without node_name", "add node_name, or move this into the directory of its node")
	}
	if name.text != "" {
		h.at = name.at
	}
	n.Name = cmp.Or(name.text, b.options.Datacenter, "local")
	n.Id = id.text
	n.Address = cmp.Or(address.text, loopback)
	if wan.text != "" {
		n.TaggedAddresses = []*isthmusv1.TaggedAddress{{Tag: "wan", Address: wan.text}}
	}
	sortChecks(n.Checks)
	slices.SortStableFunc(n.Meta, func(a, b *isthmusv1.KeyValue) int { return cmp.Compare(a.GetKey(), b.GetKey()) })
	h.node = n
}

// once takes what a file says unless another said something else.
func (b *builder) once(key string, dst *said, next said) {
	switch {
	case next.text == "":
	case dst.text == "":
		*dst = next
	case dst.text != next.text:
		b.refuse(next.at, fmt.Sprintf("%s is %q here and %q in %s:%d", key, next.text, dst.text, dst.at.file, dst.at.line),
			"say it once")
	}
}

// nodes puts the nodes into the catalog that a file names or a service uses.
func (b *builder) nodes(all hosts) {
	for _, directory := range slices.Sorted(maps.Keys(all)) {
		h := all[directory]
		if !h.used && h.at.line == 0 {
			continue
		}
		places := map[string]spot{"": h.at}
		if h.at.line == 0 {
			// Named by no file: it has no place, and nothing that could be wrong
			// but the datacenter's own name.
			places[""] = spot{line: 1}
		}
		for _, a := range h.agents {
			for path, at := range a.places {
				if _, known := places[path]; !known {
					places[path] = at
				}
			}
			for _, c := range a.checks {
				places[checkPath(c.check)] = c.at
			}
		}
		problems := judge(places, h.node.Validate(), nil)
		b.problems = append(b.problems, problems...)
		if len(problems) == 0 && !h.broken {
			b.add(isthmusv1.NodeKey(h.node.GetPartition(), h.node.GetName()), h.node, h.at, h.node.GetName())
		}
	}
}
