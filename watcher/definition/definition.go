package definition

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// File is one file of a datacenter's directory.
type File struct {
	// Name is the path relative to the datacenter's directory, with slashes. Its
	// extension (.hcl, .json, .yaml or .yml) says what it is written in, its
	// directory which node its services run on.
	Name string
	Data []byte
}

// Options are what the files themselves do not say.
type Options struct {
	// Datacenter is the name of the datacenter that the files describe. A file
	// that says `datacenter` must agree with it. Empty: anything is agreed with.
	Datacenter string
	// TrustDomain goes into the mesh facts as it is.
	TrustDomain string
	// KnownDatacenters go into the mesh facts, sorted, with Datacenter added.
	KnownDatacenters []string
}

// Severity says whether a problem makes its file unusable.
type Severity string

// The severities. A catalog with an error must not be published; one with
// warnings may.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Problem is one thing that is wrong, or not what it seems, in one place.
type Problem struct {
	// File is the name of the [File].
	File string `json:"file"`
	// Line counts from 1.
	Line int `json:"line"`
	// Key is the path of the key as it is written, like
	// service.proxy.upstreams[1].mesh_gateway.mode; empty when the file as a
	// whole is meant.
	Key      string   `json:"key"`
	Severity Severity `json:"severity"`
	// Problem is one sentence without a full stop.
	Problem string `json:"problem"`
	// Fix says what to do about it. It is never empty.
	Fix string `json:"fix"`
}

// String shows the problem as a compiler would: file:line: severity: key:
// problem (fix).
func (p Problem) String() string {
	key := p.Key
	if key != "" {
		key += ": "
	}
	return fmt.Sprintf("%s:%d: %s: %s%s (%s)", p.File, p.Line, p.Severity, key, p.Problem, p.Fix)
}

// compareProblems orders problems as a reader meets them: by file, line and key.
func compareProblems(a, b Problem) int {
	return cmp.Or(
		cmp.Compare(a.File, b.File),
		cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Key, b.Key),
		cmp.Compare(a.Severity, b.Severity),
		cmp.Compare(a.Problem, b.Problem),
		cmp.Compare(a.Fix, b.Fix),
	)
}

// Value is one value of the datacenter's catalog and where it was written.
type Value struct {
	Key isthmusv1.Key
	// Message is a [isthmusv1.Node], [isthmusv1.ServiceInstance],
	// [isthmusv1.ConfigEntry] or [isthmusv1.MeshFacts].
	Message proto.Message
	// Source is the file and line. A node that no file names and mesh facts that
	// no file shapes have the file "" and the line 0.
	Source *isthmusv1.Source
}

// Catalog is what the files of one datacenter come to.
type Catalog struct {
	// Values in the order of their keys; each key stands once. There is always
	// the one of the mesh facts.
	Values []Value
	// Problems by file and line.
	Problems []Problem
}

// HasErrors reports whether any problem is an error. Such a catalog is not
// whole and must not be published.
func (c Catalog) HasErrors() bool {
	for _, p := range c.Problems {
		if p.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Parse reads all files of one datacenter together. The order of the files has
// no meaning. It never fails: what is wrong stands in the catalog's problems,
// and every problem of every file is reported at once.
func Parse(files []File, options Options) Catalog {
	b := &builder{options: options, values: map[isthmusv1.Key]defined{}}
	var all decoder
	for _, file := range slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Name, b.Name) }) {
		d := decodeFile(file)
		b.problems = append(b.problems, d.problems...)
		all.entries = append(all.entries, d.entries...)
		all.services = append(all.services, d.services...)
		all.agents = append(all.agents, d.agents...)
	}
	hosts := b.hostsOf(all.agents)
	b.addFacts(all.agents)
	b.addEntries(all.entries)
	b.addServices(all.services, all.agents, hosts)
	b.nodes(hosts)
	return b.catalog()
}

// DatacenterOf is the datacenter that an agent's file says it belongs to; empty
// when it says nothing, or cannot be read.
func DatacenterOf(file File) string {
	for _, a := range decodeFile(file).agents {
		if a.datacenter.text != "" {
			return a.datacenter.text
		}
	}
	return ""
}

// decodeFile reads one file by itself.
func decodeFile(file File) *decoder {
	d := &decoder{file: file.Name}
	roots, broken := read(file)
	if broken != nil {
		d.report(SeverityError, broken.line, "", broken.problem, broken.fix)
		return d
	}
	for _, root := range roots {
		d.root(cursor{node: root, line: root.line})
	}
	return d
}
