package check

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// names judges whether every datacenter's name is its own.
func (j *judge) names() {
	for i, a := range j.answering {
		dc := a.datacenter()
		clash := false
		if !a.named() {
			j.warn(DatacenterName, dc, a.subject(), "not judged: %s", unnamed).Fix = nameIt(a)
			continue
		}
		if a.Given != "" && !strings.EqualFold(a.Given, dc) {
			clash = true
			j.fail(DatacenterName, dc, a.subject(), "given as %s, but it says that it is of %s", a.Given, dc).Fix = "name the datacenter that it is of with --consul, or: " + DatacenterName.fix()
		}
		for _, b := range j.answering[:i] {
			if b.datacenter() == dc && !oneCluster(a, b) {
				clash = true
				j.fail(DatacenterName, dc, a.subject(), "it and the %s are both of a datacenter named %s, which are two: they have no server in common", b.subject(), dc)
			}
		}
		if strangers := strangers(a); len(strangers) > 0 {
			clash = true
			j.fail(DatacenterName, dc, "servers in the WAN pool", "call themselves %s, but are not among its servers: %s", dc, some(strangers))
		}
		if !clash {
			j.pass(DatacenterName, dc, "servers", "one datacenter is named %s, as far as %s sees", dc, a.subject())
		}
	}
}

// unnamed is why nothing can be said that compares an agent's datacenter with others.
const unnamed = "the agent does not say of which datacenter it is, without the right to agent:read"

func nameIt(a *AgentFacts) string { return "name it: --consul DC=" + a.URL }

// oneCluster reports whether two agents of one name are of one datacenter: they
// know a server in common, or one trusts what the other does not. Where neither
// tells its servers, they are taken for one unless their trust differs.
func oneCluster(a, b *AgentFacts) bool {
	first, second := serverIDs(a), serverIDs(b)
	if len(first) == 0 || len(second) == 0 {
		return a.TrustDomain == b.TrustDomain
	}
	for id := range first {
		if second[id] {
			return true
		}
	}
	return false
}

// serverIDs are the servers of the agent's own datacenter.
func serverIDs(a *AgentFacts) map[string]bool {
	ids := map[string]bool{}
	for _, m := range a.LAN {
		if m.Server && m.ID != "" {
			ids[m.ID] = true
		}
	}
	return ids
}

// strangers are living servers in the WAN pool that bear the name of the agent's
// datacenter and are not of it.
func strangers(a *AgentFacts) []string {
	own := serverIDs(a)
	if len(own) == 0 || a.MembersErr != nil {
		return nil
	}
	var out []string
	for _, m := range a.WAN {
		if m.Server && m.Alive && strings.EqualFold(m.Datacenter, a.datacenter()) && !own[m.ID] {
			out = append(out, m.Name)
		}
	}
	return out
}

// joined judges of each datacenter whether it sees the others.
func (j *judge) joined() {
	wanted := map[string]bool{}
	for i := range j.facts.Agents {
		if a := &j.facts.Agents[i]; a.named() {
			wanted[a.datacenter()] = true
		}
	}
	for _, a := range j.answering {
		dc := a.datacenter()
		if !a.named() {
			j.warn(WANJoined, dc, "datacenters", "not judged: %s", unnamed).Fix = nameIt(a)
			continue
		}
		if a.DatacentersErr != nil {
			j.fail(WANJoined, dc, "datacenters", "the list of datacenters cannot be read: %v", a.DatacentersErr)
			continue
		}
		others := maps.Clone(wanted)
		for _, name := range a.Datacenters {
			others[strings.ToLower(name)] = true
		}
		delete(others, dc)
		if len(others) == 0 {
			j.fail(WANJoined, dc, "datacenters", "it knows no other datacenter")
		}
		for _, other := range slices.Sorted(maps.Keys(others)) {
			j.sees(a, other, wanted[other])
		}
	}
}

// sees judges whether a datacenter sees another. One that nobody asked for may be
// gone for good: Consul lists it for up to 72 hours.
func (j *judge) sees(a *AgentFacts, other string, wanted bool) {
	dc, bad := a.datacenter(), j.fail
	if !wanted {
		bad = j.warn
	}
	if !slices.ContainsFunc(a.Datacenters, func(name string) bool { return strings.EqualFold(name, other) }) {
		bad(WANJoined, dc, other, "%s does not know %s; it knows %s", dc, other, strings.Join(a.Datacenters, ", "))
		return
	}
	alive, known := 0, 0
	for _, m := range a.WAN {
		if m.Server && strings.EqualFold(m.Datacenter, other) {
			known++
			if m.Alive {
				alive++
			}
		}
	}
	through, asked := a.Through[other]
	// A refusal is an answer.
	answered := asked && (through.CatalogErr == nil || errors.Is(through.CatalogErr, consul.ErrDenied))
	switch {
	case known > 0 && alive == 0:
		bad(WANJoined, dc, other, "no server of %s is alive in the WAN pool of %s", other, dc)
	case !answered:
		bad(WANJoined, dc, other, "%s lists %s, but gets no answer from there: %v", dc, other, through.CatalogErr)
	case known == 0:
		j.pass(WANJoined, dc, other, "%s lists %s and gets answers from there; this agent does not see the WAN pool", dc, other)
	default:
		j.pass(WANJoined, dc, other, "%s lists %s, sees %s of it alive, and gets answers from there", dc, other, count(alive, "server"))
	}
}

// primaries judges whether all agents name one primary.
func (j *judge) primaries() {
	named := map[string]string{}
	for _, a := range j.answering {
		if a.Self != nil {
			named[a.datacenter()] = strings.ToLower(a.Self.PrimaryDatacenter)
		}
	}
	most := mostOf(j.answering, func(a *AgentFacts) string {
		if a.Self == nil {
			return ""
		}
		return strings.ToLower(a.Self.PrimaryDatacenter)
	})
	for _, a := range j.answering {
		dc := a.datacenter()
		switch {
		case a.Self == nil:
			j.warn(Primary, dc, a.subject(), "not judged: %v", a.SelfErr).Fix = ACLAgentRead.fix()
		case strings.EqualFold(a.Self.PrimaryDatacenter, most):
			j.pass(Primary, dc, a.subject(), "the primary is %s", most)
		default:
			j.fail(Primary, dc, a.subject(), "its primary is %s, and that of the others is not: %s", a.Self.PrimaryDatacenter, said(named))
		}
	}
}

// trustDomains judges whether all datacenters have one trust domain, which is the
// proof that they have one primary. Datacenters without Connect have none.
func (j *judge) trustDomains() {
	domains, order := j.domains()
	if len(order) == 0 {
		return
	}
	most := mostOf(order, func(dc string) string { return domains[dc] })
	for _, dc := range order {
		if domains[dc] == most {
			j.pass(TrustDomain, dc, "roots", "the trust domain is %s", most)
			continue
		}
		j.fail(TrustDomain, dc, "roots", "its trust domain is not that of the others: %s", said(domains))
	}
}

// domains are the trust domains by datacenter, in the order of the agents; those of
// datacenters without an agent come from whoever sees them.
func (j *judge) domains() (domains map[string]string, order []string) {
	domains = map[string]string{}
	note := func(dc, domain string) {
		if _, known := domains[dc]; !known && domain != "" {
			domains[dc] = domain
			order = append(order, dc)
		}
	}
	for _, a := range j.answering {
		note(a.datacenter(), a.TrustDomain)
	}
	for _, a := range j.answering {
		for _, other := range slices.Sorted(maps.Keys(a.Through)) {
			note(other, a.Through[other].TrustDomain)
		}
	}
	return domains, order
}

// others says what is not judged of datacenters that are seen through another
// alone, and judges the rest.
func (j *judge) others() {
	for dc, a := range j.seenThrough() {
		through, subject := a.Through[dc], "seen through "+a.datacenter()
		why := "no agent of " + dc + " was asked"
		if slices.ContainsFunc(j.facts.Agents, func(a AgentFacts) bool { return !a.named() }) {
			why = "no agent that was asked says that it is of " + dc
		}
		codes := []Code{Agent, Primary, GRPC, CentralConfig, IntentionDefault, Clock, ACLToken}
		if slices.ContainsFunc(j.facts.Agents, func(a AgentFacts) bool { return a.datacenter() == dc }) {
			why, codes = "the agent of "+dc+" does not answer", codes[1:]
		}
		for _, code := range codes {
			j.warn(code, dc, subject, "not judged: %s", why).Fix = "name an agent of it that answers: --consul " + dc + "=URL"
		}
		j.servers(dc, a.WAN, a.MembersErr)
		switch {
		case errors.Is(through.RootsErr, consul.ErrDenied):
			j.warn(Connect, dc, subject, "not judged: %v", through.RootsErr).Fix = ACLToken.fix()
		case through.RootsErr != nil:
			j.fail(Connect, dc, subject, "Connect is not in effect, there are no roots: %v", through.RootsErr)
		default:
			j.pass(Connect, dc, subject, "in effect with the trust domain %s", through.TrustDomain)
		}
		if through.Catalog == nil {
			j.warn(Catalog, dc, subject, "not judged: %v", through.CatalogErr).Fix = "give a token that is not local to " + a.datacenter() + ", or name an agent of " + dc
		}
	}
}

// seenThrough are the datacenters that answer through an agent of another one, and
// of which no agent answers, each with the first such agent. What gives no answer
// at all is not joined, and that is said.
func (j *judge) seenThrough() map[string]*AgentFacts {
	out := map[string]*AgentFacts{}
	for _, a := range j.answering {
		for dc, t := range a.Through {
			if out[dc] == nil && (t.CatalogErr == nil || errors.Is(t.CatalogErr, consul.ErrDenied)) {
				out[dc] = a
			}
		}
	}
	for _, a := range j.answering {
		delete(out, a.datacenter())
	}
	return out
}

// mostOf is the value that most have; among equals, that which is first.
func mostOf[T any](list []T, value func(T) string) string {
	counts := map[string]int{}
	best := ""
	for _, v := range list {
		if text := value(v); text != "" {
			counts[text]++
		}
	}
	for _, v := range list {
		if text := value(v); text != "" && (best == "" || counts[text] > counts[best]) {
			best = text
		}
	}
	return best
}

// said is who says what, sorted.
func said(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s has %s", key, cmp.Or(m[key], "none")))
	}
	return strings.Join(out, ", ")
}
