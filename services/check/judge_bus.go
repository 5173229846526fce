package check

import (
	"fmt"
	"time"
)

// bus judges our own parts.
func (j *judge) bus(b *BusFacts) {
	if b.Err != nil {
		j.fail(Bus, "", "log", "cannot be asked: %v", b.Err)
		return
	}
	for i := range b.Datacenters {
		d := &b.Datacenters[i]
		dc := d.Datacenter
		j.streams(d)
		if d.Catalog != nil {
			j.writer(Watcher, dc, "watcher", d.Catalog)
			j.watcherLag(d)
		}
		if d.elsewhere() {
			continue
		}
		if d.Routes != nil {
			j.writer(Resolver, dc, "resolver", d.Routes)
			j.judged(len(d.Behind) == 0, ResolverLag, dc, "resolver", "%s", orWords(d.Behind, "the routes are those of the newest catalogs"))
		}
		if d.ReportsErr != nil {
			j.fail(GatewayReport, dc, "reports", "cannot be read: %v", d.ReportsErr)
			continue
		}
		j.gatewayReports(d)
		j.proxyReports(d)
	}
}

// streams judges whether the streams of a datacenter are there. Its routes and reports
// may be in a domain of its own.
func (j *judge) streams(d *BusDatacenter) {
	dc := d.Datacenter
	switch {
	case d.Catalog == nil && d.Routes == nil:
		j.fail(Bus, dc, "log", "there is no CATALOG_%s and no ROUTES_%s", dc, dc)
	case d.Catalog == nil:
		j.fail(Bus, dc, "log", "there is no CATALOG_%s", dc)
	case d.elsewhere():
		j.pass(Bus, dc, "log", "catalog at #%d, a mirror; its routes are in its own domain", d.Catalog.Sequence)
	case d.Routes == nil:
		j.fail(Bus, dc, "log", "there is no ROUTES_%s", dc)
	default:
		j.pass(Bus, dc, "log", "catalog at #%d, routes at #%d", d.Catalog.Sequence, d.Routes.Sequence)
	}
}

func orWords(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return some(list)
}

// writer judges who writes a stream: here, or at the origin of a mirror.
func (j *judge) writer(code Code, dc, what string, s *StreamFacts) {
	if s.Mirrored {
		heard := fmt.Sprintf("news of %s came %v ago", dc, s.Active.Round(100*time.Millisecond))
		switch {
		case s.Active < 0:
			j.fail(Mirror, dc, "mirror", "no news of %s ever came", dc)
		case s.Active > mirrorFails:
			j.fail(Mirror, dc, "mirror", "%s: what is known of it is stale", heard)
		case s.Active > mirrorWarns:
			j.warn(Mirror, dc, "mirror", "%s", heard)
		default:
			j.pass(Mirror, dc, "mirror", "%s", heard)
		}
		return
	}
	switch {
	case s.Owner == "":
		j.fail(code, dc, what, "none is heard: nobody writes for %s", dc)
	case s.SourceLost:
		j.fail(code, dc, what, "%s writes, but no longer sees its source", s.Owner)
	case !s.Filled:
		j.fail(code, dc, what, "%s writes, but its first fill is not whole", s.Owner)
	default:
		j.pass(code, dc, what, "%s writes", s.Owner)
	}
}

// watcherLag judges the log against a fresh reading.
func (j *judge) watcherLag(d *BusDatacenter) {
	dc := d.Datacenter
	switch {
	case d.CompareErr != nil:
		j.warn(WatcherLag, dc, "watcher", "not judged: %v", d.CompareErr)
	case !d.Compared:
		j.warn(WatcherLag, dc, "watcher", "not judged: no agent of %s was asked", dc).Fix = "name an agent of it: --consul " + dc + "=URL"
	case len(d.Differing) > 0:
		j.fail(WatcherLag, dc, "watcher", "%s of the log stayed different from what Consul says: %s", count(len(d.Differing), "value"), some(d.Differing))
	default:
		j.pass(WatcherLag, dc, "watcher", "the log is what Consul says")
	}
}

// gatewayReports judges what mesh gateways say of themselves.
func (j *judge) gatewayReports(d *BusDatacenter) {
	dc, well, all := d.Datacenter, 0, 0
	for _, g := range d.Gateways {
		if !g.Registered && g.Age > reportStale {
			continue // It has ended, and nobody is sent to it.
		}
		all++
		switch {
		case g.State == "":
			j.warn(GatewayReport, dc, g.Name, "it is registered, and has never reported")
		case g.Age > reportStale:
			j.fail(GatewayReport, dc, g.Name, "its last report is %v old", g.Age.Round(time.Second)).Fix = "see that the gateway runs, and reaches NATS"
		case g.Away:
			j.warn(GatewayReport, dc, g.Name, "its Envoy is connected to no xds node: it serves what it had").Fix = "see that the Envoy and an xds node run, and what the node's log says of it"
		case g.SavedTable:
			j.warn(GatewayReport, dc, g.Name, "it serves by a saved table: it has not heard from the log since it started").Fix = "see that the gateway reaches NATS"
		case !g.Registered:
			j.warn(GatewayReport, dc, g.Name, "it reports, and the catalog has no such gateway: nobody is sent to it").Fix = "register it: isthmus gateway --register"
		case g.Behind > 0:
			j.warn(GatewayReport, dc, g.Name, "its routes are %s behind", count(int(g.Behind), "message")).Fix = "check again; if it stays so, read the gateway's log"
		default:
			well++
		}
	}
	if well > 0 || all == 0 {
		j.pass(GatewayReport, dc, "mesh gateways", "%d of %d report", well, all)
	}
}

// proxyReports judges what is said of proxies.
func (j *judge) proxyReports(d *BusDatacenter) {
	dc, clean := d.Datacenter, true
	for _, p := range d.Proxies {
		if p.Nack != "" {
			clean = false
			j.fail(ProxyReport, dc, p.Proxy, "it refused what it was sent: %s", p.Nack)
		}
		for _, problem := range p.Problems {
			clean = false
			j.warn(ProxyReport, dc, p.Proxy, "%s", problem)
		}
	}
	if clean {
		j.pass(ProxyReport, dc, "proxies", "%s, none in trouble", count(len(d.Proxies), "proxy"))
	}
}
