package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/services/consul"
)

// Judge turns facts into findings, sorted by code, datacenter and subject. It is
// pure.
func Judge(facts *Facts) []Finding {
	j := facts.judge()
	for i := range facts.Agents {
		j.agent(&facts.Agents[i])
	}
	for _, a := range j.answering {
		j.version(a)
		j.connect(a)
		j.settings(a)
		j.clock(a)
		j.rights(a)
	}
	j.names()
	j.joined()
	j.primaries()
	j.trustDomains()
	j.others()
	for _, c := range j.catalogs() {
		j.catalog(c)
	}
	j.paths()
	if facts.Bus != nil {
		j.bus(facts.Bus)
	}
	for _, f := range facts.Extra {
		f.From = cmp.Or(f.From, facts.From)
		j.findings = append(j.findings, f)
	}
	sortFindings(j.findings)
	return slices.CompactFunc(j.findings, func(a, b Finding) bool { return a == b })
}

// judge collects findings.
type judge struct {
	facts    *Facts
	findings []Finding
	// answering are the agents that answer.
	answering []*AgentFacts
}

// judge returns a judge who has not judged yet.
func (f *Facts) judge() *judge {
	j := &judge{facts: f}
	for i := range f.Agents {
		if f.Agents[i].Err == nil {
			j.answering = append(j.answering, &f.Agents[i])
		}
	}
	return j
}

// pass, warn and fail add a finding. A fix is what there is to say beyond the
// table's; empty: the table's.
func (j *judge) pass(code Code, dc, subject, format string, args ...any) {
	j.findings = append(j.findings, Finding{
		Code: code, Datacenter: dc, Status: Pass, Subject: subject, From: j.facts.From, Found: fmt.Sprintf(format, args...),
	})
}

func (j *judge) warn(code Code, dc, subject, format string, args ...any) *Finding {
	return j.bad(Warn, code, dc, subject, fmt.Sprintf(format, args...))
}

func (j *judge) fail(code Code, dc, subject, format string, args ...any) *Finding {
	return j.bad(Fail, code, dc, subject, fmt.Sprintf(format, args...))
}

// bad adds a finding, to which a fix of its own may be given. Errors that were joined
// have a line each.
func (j *judge) bad(status Status, code Code, dc, subject, found string) *Finding {
	j.findings = append(j.findings, Finding{
		Code: code, Datacenter: dc, Status: status, Subject: subject, From: j.facts.From, Found: strings.ReplaceAll(found, "\n", "; "), Fix: code.fix(),
	})
	return &j.findings[len(j.findings)-1]
}

// judged adds a pass or a fail.
func (j *judge) judged(ok bool, code Code, dc, subject, format string, args ...any) {
	if ok {
		j.pass(code, dc, subject, format, args...)
		return
	}
	j.fail(code, dc, subject, format, args...)
}

// agent judges whether an agent answers.
func (j *judge) agent(a *AgentFacts) {
	dc, kind := a.datacenter(), "a client"
	if a.server() {
		kind = "a server"
	}
	switch {
	case a.Err != nil:
		j.fail(Agent, dc, a.subject(), "does not answer: %v", a.Err).Fix = agentFix(a.Err)
	case a.Self == nil:
		j.pass(Agent, dc, a.subject(), "answers, but not about itself: %v", a.SelfErr)
	default:
		j.pass(Agent, dc, a.subject(), "answers at %s, %s of %s", a.URL, kind, dc)
	}
}

// agentFix is what to do about an agent that does not answer: start it only where
// nobody is there.
func agentFix(err error) string {
	if errors.Is(err, consul.ErrMisaddressed) {
		return "give the address and the certificates as it says"
	}
	return Agent.fix()
}

// oldest is the version that everything needs.
var oldest = []int{1, 6, 0}

// version judges the agent's version and that of its datacenter's servers.
func (j *judge) version(a *AgentFacts) {
	dc := a.datacenter()
	own := a.Version
	if a.Self != nil {
		own = cmp.Or(a.Self.Version, own)
	}
	if own == "" {
		j.warn(Version, dc, a.subject(), "not judged: the agent does not tell its version").Fix = ACLAgentRead.fix()
	} else {
		j.judged(recent(own), Version, dc, a.subject(), "Consul %s", own)
	}
	j.servers(dc, slices.Concat(a.LAN, a.WAN), a.MembersErr)
}

// servers judges the versions of the servers of one datacenter among members.
func (j *judge) servers(dc string, members []consul.Member, err error) {
	versions := map[string]string{}
	var old []string
	for _, m := range members {
		if !m.Server || !strings.EqualFold(m.Datacenter, dc) || m.Build == "" {
			continue
		}
		if _, known := versions[m.ID]; !known && !recent(m.Build) {
			old = append(old, m.Name+" "+m.Build)
		}
		versions[m.ID] = m.Build
	}
	switch {
	case len(old) > 0:
		slices.Sort(old)
		j.fail(Version, dc, "servers", "older than 1.6.0: %s", strings.Join(old, ", "))
	case len(versions) == 0 && err != nil:
		j.warn(Version, dc, "servers", "not judged: %v", err).Fix = ACLNodeRead.fix()
	case len(versions) == 0:
		j.warn(Version, dc, "servers", "not judged: no server tells its version")
	default:
		j.pass(Version, dc, "servers", "%s: Consul %s", count(len(versions), "server"), strings.Join(values(versions), ", "))
	}
}

// recent reports whether a version is 1.6.0 or newer; text behind the numbers,
// like +ent, counts for nothing.
func recent(version string) bool {
	version = strings.TrimPrefix(version, "v")
	if i := strings.IndexAny(version, "-+:"); i >= 0 {
		version = version[:i]
	}
	parts := strings.Split(version, ".")
	for i, least := range oldest {
		n := 0
		if i < len(parts) {
			n, _ = strconv.Atoi(parts[i])
		}
		if n != least {
			return n > least
		}
	}
	return true
}

// connect judges whether Connect is on, and in effect.
func (j *judge) connect(a *AgentFacts) {
	dc := a.datacenter()
	switch {
	case errors.Is(a.RootsErr, consul.ErrConnectDisabled):
		j.fail(Connect, dc, "servers", "Connect is disabled: %v", a.RootsErr)
	case errors.Is(a.RootsErr, consul.ErrDenied):
		j.warn(Connect, dc, "servers", "not judged: %v", a.RootsErr).Fix = ACLToken.fix()
	case a.RootsErr != nil:
		j.fail(Connect, dc, "servers", "Connect is not in effect, there are no roots: %v", a.RootsErr)
	case a.TrustDomain == "":
		j.fail(Connect, dc, "servers", "Connect is not in effect: the roots have no trust domain")
	case a.server() && !a.Self.ConnectEnabled:
		j.fail(Connect, dc, a.subject(), "this server has connect.enabled off, though roots are there: it will not lead with them")
	default:
		j.pass(Connect, dc, "servers", "enabled, and in effect with the trust domain %s", a.TrustDomain)
	}
}

// clock judges the agent's clock.
func (j *judge) clock(a *AgentFacts) {
	dc := a.datacenter()
	differs := a.Clock.AtLeast()
	switch {
	case a.ClockErr != nil:
		j.warn(Clock, dc, a.subject(), "not judged: %v", a.ClockErr)
	case differs > clockFails:
		j.fail(Clock, dc, a.subject(), "%s", skew(a.Clock))
	case differs > clockWarns:
		j.warn(Clock, dc, a.subject(), "%s", skew(a.Clock))
	default:
		j.pass(Clock, dc, a.subject(), "%s", skew(a.Clock))
	}
}
