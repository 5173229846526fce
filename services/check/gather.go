package check

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// Target is one agent to ask.
type Target struct {
	// Datacenter that it is said to be of; empty: whichever it says.
	Datacenter string
	Client     *consul.Client
}

// Options say what to gather.
type Options struct {
	// From names this machine.
	From    string
	Targets []Target
	// Services are those whose leaf the token should be able to get.
	Services []string
	// Log is asked for our own parts; nil: they are left out.
	Log bus.Log
	// Reports reads what a datacenter's gateways and proxies report; nil: they are
	// left out.
	Reports func(ctx context.Context, datacenter string) ([]GatewayFacts, []ProxyFacts, error)
	// Audit judges what only the rules of the resolver tell of a datacenter's catalog;
	// nil: that is left out.
	Audit func(Audited) []Finding
	// Dial opens connections; nil: a [net.Dialer] does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Settle is how long the log may take to show what Consul says, and the routes
	// what the catalogs say; 0: 3 s.
	Settle time.Duration
	// PathTimeout is for one connection; 0: 5 s.
	PathTimeout time.Duration
}

// Gather asks everybody for the facts. What cannot be learnt is among them.
func Gather(ctx context.Context, o Options) *Facts {
	o.Settle = cmp.Or(o.Settle, 3*time.Second)
	o.PathTimeout = cmp.Or(o.PathTimeout, 5*time.Second)
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	facts := &Facts{From: o.From, Services: o.Services, Agents: make([]AgentFacts, len(o.Targets))}
	var group sync.WaitGroup
	for i, t := range o.Targets {
		group.Go(func() { facts.Agents[i] = ask(ctx, t, o.Services) })
	}
	group.Wait()
	facts.atHome()
	for i, t := range o.Targets {
		if facts.Agents[i].Err == nil {
			group.Go(func() { facts.Agents[i].Through = facts.through(ctx, &facts.Agents[i], t.Client) })
		}
	}
	group.Wait()
	group.Go(func() { facts.Paths = tryPaths(ctx, facts, o) })
	if o.Log != nil {
		group.Go(func() { facts.Bus = askBus(ctx, facts, o) })
	}
	group.Wait()
	if o.Audit != nil {
		facts.Extra = facts.audit(o.Audit)
	}
	return facts
}

// Audited is a datacenter's catalog as an audit takes it.
type Audited struct {
	Datacenter string
	Catalog    *CatalogFacts
	// Known datacenters, and TrustDomain; may be empty.
	Known       []string
	TrustDomain string
	// Self is what the agent says of itself; nil when no agent of it was asked.
	Self *consul.Self
}

// audit has every catalog audited that can be read.
func (f *Facts) audit(audit func(Audited) []Finding) []Finding {
	j := f.judge()
	domains, _ := j.domains()
	var out []Finding
	for _, c := range j.catalogs() {
		if c.facts.Err == nil {
			out = append(out, audit(Audited{
				Datacenter: c.dc, Catalog: c.facts, Known: c.known, TrustDomain: domains[c.dc], Self: c.self,
			})...)
		}
	}
	return out
}

// ask asks one agent about itself and its datacenter.
func ask(ctx context.Context, t Target, services []string) AgentFacts {
	c := t.Client
	a := AgentFacts{Given: strings.ToLower(t.Datacenter), URL: c.URL(), Anonymous: c.Anonymous()}
	self, err := c.Self(ctx)
	switch {
	case err == nil:
		a.Self = &self
	case errors.Is(err, consul.ErrDenied):
		a.SelfErr, a.Controlled = err, true
	default:
		a.Err = err
		return a
	}
	a.Controlled = a.Controlled || a.Self.ACLsEnabled
	if version, err := c.Version(ctx); err == nil {
		a.Version = version
	}
	a.Clock, a.ClockErr = c.Clock(ctx)
	a.members(ctx, c)
	a.Datacenters, a.DatacentersErr = c.Datacenters(ctx)
	roots, _, err := c.Roots(ctx, consul.Query{})
	a.RootsErr = err
	a.TrustDomain = roots.GetTrustDomain()
	if a.Controlled {
		a.Rights = c.Rights(ctx, services...)
	}
	a.Catalog = readCatalog(ctx, c, "", a.Controlled)
	a.Catalog.Roots = roots
	return a
}

// members reads the gossip pools; what is hidden of them is an error.
func (a *AgentFacts) members(ctx context.Context, c *consul.Client) {
	lan, answer, err := c.Members(ctx, false)
	if err != nil {
		a.MembersErr = err
		return
	}
	a.LAN = lan
	hidden := answer.Filtered || len(lan) == 0
	if a.WAN, _, err = c.Members(ctx, true); err != nil {
		a.MembersErr = err
	} else if hidden {
		a.MembersErr = errors.New("the token may not see all members (node:read)")
	}
}

// readCatalog reads a datacenter's catalog; an empty name is the agent's own.
func readCatalog(ctx context.Context, c *consul.Client, dc string, controlled bool) *CatalogFacts {
	q := consul.Query{Datacenter: dc}
	nodes, answer, err := c.AllNodes(ctx, q, false)
	if err != nil {
		if errors.Is(err, consul.ErrDenied) {
			return &CatalogFacts{Partial: err.Error()}
		}
		return &CatalogFacts{Err: err}
	}
	f := &CatalogFacts{Nodes: nodes, Partial: answer.Partial(controlled)}
	for _, kind := range consul.EntryKinds() {
		entries, answer, err := c.ConfigEntries(ctx, kind, q)
		switch {
		case errors.Is(err, consul.ErrDenied):
			f.Partial = cmp.Or(f.Partial, err.Error())
		case err != nil:
			f.Err = err
			return f
		case answer.Filtered:
			f.Partial = cmp.Or(f.Partial, answer.Partial(controlled))
		}
		f.Entries = append(f.Entries, entries...)
	}
	return f
}

// atHome finds the datacenters that this machine is in: those whose agents it
// reaches at an address of its own, else that of the first agent.
func (f *Facts) atHome() {
	own := map[string]bool{}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				own[n.IP.String()] = true
			}
		}
	}
	some := false
	for i := range f.Agents {
		a := &f.Agents[i]
		a.Home = here(a.URL, own)
		some = some || a.Home
	}
	if !some && len(f.Agents) > 0 {
		f.Agents[0].Home = true
	}
}

// here reports whether a URL leads to this machine.
func here(address string, own map[string]bool) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	if u.Scheme == "unix" || u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && (ip.IsLoopback() || own[ip.String()])
}

// through asks an agent about the other datacenters.
func (f *Facts) through(ctx context.Context, a *AgentFacts, c *consul.Client) map[string]ThroughFacts {
	asked := map[string]bool{}
	for i := range f.Agents {
		if f.Agents[i].Err == nil {
			asked[f.Agents[i].datacenter()] = true
		}
	}
	var (
		mu    sync.Mutex
		group sync.WaitGroup
	)
	out := map[string]ThroughFacts{}
	for _, name := range a.Datacenters {
		other := strings.ToLower(name)
		if other == a.datacenter() {
			continue
		}
		group.Go(func() {
			t := ThroughFacts{}
			_, _, t.CatalogErr = c.Nodes(ctx, consul.Query{Datacenter: other})
			roots, _, err := c.Roots(ctx, consul.Query{Datacenter: other})
			t.TrustDomain, t.RootsErr = roots.GetTrustDomain(), err
			if !asked[other] && t.CatalogErr == nil {
				t.Catalog = readCatalog(ctx, c, other, a.Controlled)
				t.Catalog.Roots = roots
			}
			mu.Lock()
			defer mu.Unlock()
			out[other] = t
		})
	}
	group.Wait()
	return out
}

// homes are the datacenters that this machine is in, sorted.
func (f *Facts) homes() []string {
	var out []string
	for i := range f.Agents {
		if a := &f.Agents[i]; a.Home && a.Err == nil {
			out = append(out, a.datacenter())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
