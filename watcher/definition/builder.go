package definition

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// builder joins what the files of a datacenter define.
type builder struct {
	options  Options
	problems []Problem
	values   map[isthmusv1.Key]defined
}

// defined is a value and where it was defined first.
type defined struct {
	message proto.Message
	at      spot
	name    string
}

func (b *builder) report(severity Severity, at spot, problem, fix string) {
	b.problems = append(b.problems, Problem{
		File: at.file, Line: max(at.line, 1), Key: shorten(at.key), Severity: severity, Problem: problem, Fix: fix,
	})
}

func (b *builder) refuse(at spot, problem, fix string) { b.report(SeverityError, at, problem, fix) }

// add puts a value into the catalog, once.
func (b *builder) add(key isthmusv1.Key, message proto.Message, at spot, name string) {
	first, twice := b.values[key]
	if !twice {
		b.values[key] = defined{message, at, name}
		return
	}
	problem := fmt.Sprintf("%s is already defined in %s:%d", key, first.at.file, first.at.line)
	if first.name != name && strings.EqualFold(first.name, name) {
		problem += fmt.Sprintf(" as %q: names must differ by more than case", first.name)
	}
	b.refuse(at, problem, "remove one of the two, or give it another name")
}

// addEntries puts the config entries into the catalog.
func (b *builder) addEntries(entries []*draftEntry) {
	for _, e := range entries {
		if !e.broken {
			key := isthmusv1.ConfigKey(e.entry.GetKind(), e.entry.GetPartition(), e.entry.GetNamespace(), e.entry.GetName())
			b.add(key, e.entry, e.places[""], e.entry.GetName())
		}
	}
}

// addFacts puts what holds for the whole datacenter into the catalog: the
// intention policy (Consul's order: default_intention_policy, else the default
// policy of access control where that is enabled, else allow), and what the
// options say.
func (b *builder) addFacts(agents []*agent) {
	var policy, fallback, primary said
	facts := &isthmusv1.MeshFacts{
		Datacenter: b.options.Datacenter, TrustDomain: b.options.TrustDomain, CentralConfig: true,
	}
	for _, a := range agents {
		b.once("default_intention_policy", &policy, a.policy)
		b.once("primary_datacenter", &primary, a.primary)
		if a.aclEnabled {
			b.once("acl.default_policy", &fallback, a.aclPolicy)
		}
		if a.centralOff {
			facts.CentralConfig = false
		}
		if dc := a.datacenter; dc.text != "" && b.options.Datacenter != "" && !strings.EqualFold(dc.text, b.options.Datacenter) {
			b.refuse(dc.at, fmt.Sprintf("this is the directory of datacenter %q, not of %q", b.options.Datacenter, dc.text),
				"move the file, or correct datacenter")
		}
	}
	if policy.text == "" {
		policy = fallback
	}
	facts.DefaultIntentionPolicy = cmp.Or(policy.text, "allow")
	facts.PrimaryDatacenter = primary.text
	known := slices.Clone(b.options.KnownDatacenters)
	if b.options.Datacenter != "" {
		known = append(known, b.options.Datacenter)
	}
	slices.Sort(known)
	facts.KnownDatacenters = slices.Compact(known)
	b.values[isthmusv1.MeshFactsKey()] = defined{message: facts, at: policy.at}
}

// catalog returns what came together.
func (b *builder) catalog() Catalog {
	var out Catalog
	for key, v := range b.values {
		out.Values = append(out.Values, Value{
			Key: key, Message: v.message,
			Source: &isthmusv1.Source{File: v.at.file, Line: uint32(v.at.line)},
		})
	}
	slices.SortFunc(out.Values, func(x, y Value) int { return x.Key.Compare(y.Key) })
	out.Problems = listed(b.problems)
	return out
}

// maxProblems bounds what is listed of one file, and with it the cost of a file
// that is wrong everywhere.
const maxProblems = 1000

// listed sorts problems and drops repeated ones. What a file has beyond the
// bound, of errors and of warnings, is replaced by one that says so.
func listed(problems []Problem) []Problem {
	slices.SortFunc(problems, compareProblems)
	var out []Problem
	inFile := map[Severity]int{}
	for i, p := range problems {
		switch {
		case i > 0 && p == problems[i-1]:
			continue
		case len(out) == 0 || out[len(out)-1].File != p.File:
			clear(inFile)
		}
		if inFile[p.Severity]++; inFile[p.Severity] <= maxProblems {
			out = append(out, p)
		} else if inFile[p.Severity] == maxProblems+1 {
			out = append(out, Problem{
				File: p.File, Line: p.Line, Severity: p.Severity,
				Problem: fmt.Sprintf("the file has more than %d %ss; the others are not listed", maxProblems, p.Severity), Fix: "correct these first",
			})
		}
	}
	return out
}
