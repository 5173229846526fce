package check

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// end is one end of paths.
type end struct {
	gateway  bool
	dc, name string
}

// paths judges the network paths, those of one gateway together.
func (j *judge) paths() {
	byEnd := map[end][]PathFacts{}
	var order []end
	for _, p := range j.facts.Paths {
		e := end{p.Gateway, p.Datacenter, p.Name}
		if byEnd[e] == nil {
			order = append(order, e)
		}
		byEnd[e] = append(byEnd[e], p)
	}
	reached, skipped, failed := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, e := range order {
		if e.gateway {
			j.gatewayPaths(e, byEnd[e])
			continue
		}
		for _, p := range byEnd[e] {
			skipped[e.dc] += p.Skipped
			if p.Outcome == Reached {
				reached[e.dc]++
				continue
			}
			failed[e.dc] = true
			j.fail(ServiceReach, e.dc, e.name, "%s", tried(p)).Fix = outcomes[p.Outcome].fix
		}
	}
	j.servicePaths(reached, skipped, failed)
}

// servicePaths says how many services were reached, and which datacenters' are not
// judged.
func (j *judge) servicePaths(reached, skipped map[string]int, failed map[string]bool) {
	home := map[string]bool{}
	for _, a := range j.answering {
		home[a.datacenter()] = home[a.datacenter()] || a.Home
	}
	for _, c := range j.catalogs() {
		left := ""
		if skipped[c.dc] > 0 {
			left = fmt.Sprintf("; %d more were not tried", skipped[c.dc])
		}
		switch {
		case reached[c.dc] > 0:
			j.pass(ServiceReach, c.dc, "services", "%s reached at the LAN address%s", count(reached[c.dc], "proxy"), left)
		case failed[c.dc] || c.facts.Err != nil:
		case !home[c.dc]:
			j.warn(ServiceReach, c.dc, "services", "not judged: this machine is not in %s", c.dc).Fix = "run isthmus check on a machine of " + c.dc
		default:
			j.pass(ServiceReach, c.dc, "services", "no healthy proxy is registered: there is no path to judge")
		}
	}
}

// gatewayPaths judges the paths to one gateway. Its WAN address matters to the
// other datacenters: a machine of its own may do without it.
func (j *judge) gatewayPaths(e end, paths []PathFacts) {
	wan := slices.IndexFunc(paths, func(p PathFacts) bool { return p.WAN })
	lan := slices.IndexFunc(paths, func(p PathFacts) bool { return !p.WAN })
	if wan < 0 {
		return
	}
	p := paths[wan]
	switch {
	case p.Outcome == Reached:
		j.pass(GatewayReach, e.dc, e.name, "%s", tried(p))
	case p.Outcome == Connected:
		j.warn(GatewayReach, e.dc, e.name, "%s", tried(p)).Fix = outcomes[p.Outcome].fix
	case lan >= 0 && (paths[lan].Outcome == Reached || paths[lan].Outcome == Connected):
		j.warn(GatewayReach, e.dc, e.name, "%s; %s. This machine is in %s, and does without the WAN address", tried(p), tried(paths[lan]), e.dc).Fix = "run isthmus check on a machine of another datacenter"
	default:
		j.fail(GatewayReach, e.dc, e.name, "%s", tried(p)).Fix = outcomes[p.Outcome].fix
	}
}

// outcomes are the outcomes in words.
var outcomes = map[Outcome]struct{ found, fix string }{
	Reached:      {"reached", ""},
	Connected:    {"a connection stands, but no healthy service is behind it to ask for", "register a service with a proxy, and check again"},
	NotConnected: {"no connection", "open the way from this machine to that address, or correct the address that is registered"},
	NotPassed:    {"a connection, but no answer to the name", "see that the gateway knows the name (isthmus gateways) and the proxy behind it runs; what listens at the address may be something else"},
	NotMesh:      {"an answer, but not of a proxy of the mesh: it asks for no certificate", "correct the address that is registered: something else listens there"},
	Impostor:     {"an answer, but not of that service", "correct the address that is registered: another proxy listens there"},
}

// tried is one try in words.
func tried(p PathFacts) string {
	var b strings.Builder
	side := "LAN"
	if p.WAN {
		side = "WAN"
	}
	fmt.Fprintf(&b, "%s address %s: %s", side, p.Address, outcomes[p.Outcome].found)
	if p.Outcome == Reached {
		fmt.Fprintf(&b, " in %v", p.Took.Round(100*time.Microsecond))
	}
	if p.SNI != "" {
		fmt.Fprintf(&b, ", asking for %s", p.SNI)
	}
	if p.Err != nil {
		fmt.Fprintf(&b, ": %v", p.Err)
	}
	return b.String()
}
