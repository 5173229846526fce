package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/bus/embed"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// consulDatacenter is a datacenter and the URL of its agent here.
type consulDatacenter struct{ name, url string }

// parseConsulDatacenters reads dc1=URL, dc2=URL, ….
func parseConsulDatacenters(texts []string) ([]consulDatacenter, error) {
	var out []consulDatacenter
	for _, text := range texts {
		name, url, ok := strings.Cut(text, "=")
		if !ok || name == "" || url == "" {
			return nil, usageError{fmt.Errorf("--consul: %q is not DATACENTER=URL, like dc1=http://127.0.0.1:8500", text)}
		}
		name = strings.ToLower(name)
		if slices.ContainsFunc(out, func(d consulDatacenter) bool { return d.name == name }) {
			return nil, usageError{fmt.Errorf("--consul names %s twice", name)}
		}
		out = append(out, consulDatacenter{name, url})
	}
	return out, nil
}

// leftOut is a gateway or sidecar that is registered and does not run here.
type leftOut struct{ datacenter, kind, name, why string }

// agentTimeout bounds what an agent is asked before anything runs.
const agentTimeout = 15 * time.Second

// newConsulWorld is the world beside existing Consul datacenters: it runs the
// gateways and sidecars that are registered on the agents' own nodes, where their
// addresses are this machine's and nobody listens there yet. Close it.
func newConsulWorld(ctx context.Context, a *app, dir string, flags consulFlags, datacenters []consulDatacenter) (*world, error) {
	w := &world{app: a, dir: dir, agents: make(map[string]*consul.Client), registry: newRegistry(), records: newRecorder()}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	for _, d := range datacenters {
		client, err := flags.at(a, d.url)
		if err != nil {
			return nil, err
		}
		w.datacenters = append(w.datacenters, d.name)
		w.agents[d.name] = client
		if err := w.addAgent(ctx, d.name, client); err != nil {
			return nil, err
		}
	}
	w.nameGateways()
	w.leaveOut()
	var err error
	w.server, err = embed.Start(embed.Options{StoreDir: filepath.Join(dir, "nats"), Logger: a.logger})
	return w, err
}

// addAgent notes what is registered on an agent's node.
func (w *world) addAgent(ctx context.Context, datacenter string, client *consul.Client) error {
	self, err := client.Self(ctx)
	if err != nil {
		return agentTrouble(datacenter, client, err)
	}
	if !strings.EqualFold(self.Datacenter, datacenter) {
		return hint{
			fmt.Errorf("the agent at %s is of datacenter %s, not %s", client.URL(), self.Datacenter, datacenter),
			fmt.Sprintf("give --consul %s=%s", strings.ToLower(self.Datacenter), client.URL()),
		}
	}
	roots, _, err := client.Roots(ctx, consul.Query{})
	if err != nil {
		return agentTrouble(datacenter, client, err)
	}
	if w.trustDomain != "" && w.trustDomain != roots.GetTrustDomain() {
		return hint{
			fmt.Errorf("datacenter %s has the trust domain %s, %s has %s", datacenter, roots.GetTrustDomain(), w.datacenters[0], w.trustDomain),
			"federate them: one primary_datacenter for all",
		}
	}
	w.trustDomain = roots.GetTrustDomain()
	state, _, err := client.Node(ctx, self.NodeName, consul.Query{})
	if err != nil {
		return agentTrouble(datacenter, client, err)
	}
	for _, i := range state.Instances {
		w.addInstance(datacenter, state.Node, i)
	}
	return nil
}

// agentTrouble says which agent did not answer, and what to do.
func agentTrouble(datacenter string, client *consul.Client, err error) error {
	err = fmt.Errorf("agent of %s at %s: %w", datacenter, client.URL(), err)
	switch {
	case errors.Is(err, consul.ErrDenied), errors.Is(err, consul.ErrNotFound):
		return hint{err, "give a token with agent:read, node:read, service:read and, for the sidecars' services, service:write (CONSUL_HTTP_TOKEN or --consul-token-file)"}
	case errors.Is(err, consul.ErrConnectDisabled):
		return hint{err, "enable it: connect { enabled = true } in the servers' configuration"}
	}
	return hint{err, "see that a Consul agent runs there"}
}

// leaveOut takes out what cannot run here: it is registered for another machine,
// or something runs it already.
func (w *world) leaveOut() {
	w.gateways = slices.DeleteFunc(w.gateways, func(g *worldGateway) bool {
		g.listen = slices.DeleteFunc(g.listen, func(address string) bool { return !isLocal(address) })
		why := "no address of this machine is registered for it"
		if len(g.listen) > 0 {
			why = taken(g.listen)
		}
		return w.omit(g.datacenter, "gateway", g.name, why)
	})
	w.sidecars = slices.DeleteFunc(w.sidecars, func(s worldSidecar) bool {
		why := taken(s.addresses())
		if !isLocal(s.public) {
			why = s.public + " is not of this machine"
		}
		return w.omit(s.datacenter, "sidecar", s.proxy(), why)
	})
}

// omit notes what is left out, unless there is no reason to.
func (w *world) omit(datacenter, kind, name, why string) bool {
	if why != "" {
		w.leftOut = append(w.leftOut, leftOut{datacenter, kind, name, why})
	}
	return why != ""
}

// taken says which of the addresses somebody else listens at; empty: none.
func taken(addresses []string) string {
	for _, address := range addresses {
		listener, err := listenOnce(address)
		if err != nil {
			return err.Error()
		}
		_ = listener.Close() // Nothing came by it.
	}
	return ""
}

// isLocal reports whether the host of an address is this machine.
func isLocal(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost"
	}
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.Equal(ip.AsSlice())
	})
}

// introduceConsul prints what runs beside Consul.
func (w *world) introduceConsul() {
	out := w.app.stdout
	fmt.Fprintf(out, "isthmus dev runs: NATS at %s, catalogs from Consul\n", w.server.URL())
	for _, dc := range w.datacenters {
		fmt.Fprintf(out, "\n  %s\n    agent     %s\n", dc, w.agents[dc].URL())
		w.introduceGateways(dc)
		for _, s := range w.sidecars {
			if s.datacenter == dc {
				fmt.Fprintf(out, "    sidecar   %-28s %s\n", s.proxy(), s.public)
			}
		}
		w.introduceUpstreams(dc)
		for _, l := range w.leftOut {
			if l.datacenter == dc {
				fmt.Fprintf(out, "    left out  %s %s: %s\n", l.kind, l.name, l.why)
			}
		}
	}
	fmt.Fprint(out, "\nTry: isthmus explain web · isthmus log --follow · isthmus gateways · consul config write …\n")
}
