package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// compareSettings are the flags of compare.
type compareSettings struct {
	from      sourceFlags
	consul    consulFlags
	consulXDS string
	node      string
	all       bool
	patience  time.Duration
	output    string
}

func newCompareCommand(a *app) *cobra.Command {
	var s compareSettings
	cmd := &cobra.Command{
		Use:   "compare PROXY|--all",
		Short: "What an Envoy would be served here and by Consul: only the differences",
		Long: `Asks the local Consul agent for what it serves to an Envoy of the proxy, as that Envoy
would, and shows what differs from what an xds node of ours serves for the same
registration. What carries no meaning for traffic is left out: the order of endpoints,
digits before a cluster's name, certificates against secrets of the Envoy's own
machine. Neither keys nor certificates are shown.

INTENDED names the row of deploy/docs/differences.md that a difference has. The exit
code is 0 when every difference has one, else 1: look at what has none before you
move the proxy over. Ours come from the routes of the agent's datacenter (--nats), from
files (--catalog), or from a running xds node on loopback (--xds); with --xds alone,
differences that are intended for a reason which only routes state have no row.

The token must have the rights of the proxy's own: service:write on its service.`,
		Example: `  isthmus compare web-sidecar-proxy --consul http://127.0.0.1:8500 --nats nats://127.0.0.1:4222
  isthmus compare --all -o json
  isthmus compare mesh-gateway --xds 127.0.0.1:9510`,
		Args: between(0, 1, "PROXY, or --all"),
	}
	s.from.register(a, cmd, true)
	s.consul.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&s.consulXDS, "consul-xds", "", "where the agent serves xDS, HOST:PORT, or https://HOST:PORT; else what it says of itself")
	flags.StringVar(&s.node, "xds", "", "xds node that is compared, HOST:PORT in plain text; else what the routes come to")
	flags.BoolVar(&s.all, "all", false, "compare all sidecars and mesh gateways of the agent")
	flags.DurationVar(&s.patience, "patience", 3*time.Second, "how long a proxy may take until both sides agree")
	outputFlag(cmd, &s.output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 == s.all {
			return usageError{errors.New("wanted: PROXY, or --all")}
		}
		return a.compare(cmd.Context(), &s, args)
	}
	return cmd
}

// compared is what was found about a proxy.
type compared struct {
	Proxy       string               `json:"proxy"`
	Differences []compare.Difference `json:"differences"`
	// Error says why it could not be compared.
	Error string `json:"error,omitempty"`
}

// unintended are how many differences no row stands for.
func (c compared) unintended() int { return len(compare.Unintended(c.Differences)) }

func (a *app) compare(ctx context.Context, s *compareSettings, args []string) error {
	json, err := asJSON(s.output)
	if err != nil {
		return err
	}
	agent, err := s.consul.open(a)
	if err != nil {
		return err
	}
	defer agent.Close()
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := a.newComparer(asking, s, agent)
	if err != nil {
		return err
	}
	if err := c.readRoutes(asking, a); err != nil {
		return err
	}
	names := args
	if s.all {
		if names, err = agent.LocalProxies(asking); err != nil {
			return err
		}
	}
	found := []compared{}
	shown := newProgress(a.stderr, "comparing")
	for i, name := range names {
		shown.at(uint64(i), uint64(len(names)))
		found = append(found, c.compare(ctx, name))
	}
	shown.end()
	return a.printCompared(json, found)
}

// comparer compares proxies of one agent.
type comparer struct {
	*compareSettings
	self consul.Self
	xds  consul.XDS
	// ours is nil when an xds node alone is asked.
	ours *xdsnode.Machine
}

func (a *app) newComparer(ctx context.Context, s *compareSettings, agent *consul.Client) (*comparer, error) {
	self, err := agent.Self(ctx)
	if err != nil {
		return nil, hint{err, "name the agent with --consul, and a token that may read it with --consul-token-file"}
	}
	xds, err := agent.XDS(self, s.consulXDS)
	if err != nil {
		return nil, hint{err, "open ports.grpc in the agent, or name the address with --consul-xds"}
	}
	return &comparer{compareSettings: s, self: self, xds: xds}, nil
}

// readRoutes reads what ours come to, where routes are named.
func (c *comparer) readRoutes(ctx context.Context, a *app) error {
	from := c.from
	if c.node != "" && from.bus.url == "" && from.files.catalog == "" {
		return nil
	}
	datacenter := cmp.Or(from.datacenter, c.self.Datacenter)
	if from.datacenter = datacenter; from.files.catalog != "" {
		from.datacenter = "" // Routes of one are made of the catalogs of all.
	}
	source, err := from.open(ctx, a)
	if err != nil {
		return err
	}
	defer source.close()
	c.ours, err = source.servedIn(ctx, datacenter, 0)
	return err
}

// compare compares a proxy, NODE/ID or an ID that is unique.
func (c *comparer) compare(ctx context.Context, name string) compared {
	out := compared{Proxy: name, Differences: []compare.Difference{}}
	node, id, ok := strings.Cut(name, "/")
	if !ok {
		node, id = "", name
		if c.all {
			node = c.self.NodeName
		}
	}
	var ours *xdsnode.Proxy
	if c.ours != nil {
		var err error
		if ours, err = c.ours.Find(node, id); err != nil {
			out.Error = err.Error()
			return out
		}
		node, id = ours.Routes.GetNode(), ours.Routes.GetId()
	}
	out.Proxy = strings.TrimPrefix(node+"/"+id, "/")
	differences, err := c.proxy(ctx, node, id, ours)
	if err != nil {
		out.Error = err.Error()
	}
	out.Differences = append(out.Differences, differences...)
	return out
}

// proxy compares until nothing differs but what is intended, or patience ends. ours is
// nil when an xds node alone is asked.
func (c *comparer) proxy(ctx context.Context, node, id string, ours *xdsnode.Proxy) ([]compare.Difference, error) {
	waiting, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	registered := node
	if strings.EqualFold(node, c.self.NodeName) {
		registered = "" // The agent's own registrations have no node.
	}
	theirs, done := askPlane(ctx, client.Config{Address: c.xds.Address, TLS: c.xds.TLS, ID: id, Node: registered, Token: c.xds.Token})
	defer done()
	var facts compare.Facts
	look := func() (servedSide, error) { return servedByRoutes(ours), nil }
	if ours != nil {
		facts = compare.FactsOf(c.ours.RouteSet(ours))
	}
	if c.node != "" {
		running, done := askPlane(ctx, client.Config{Address: c.node, ID: id, Node: node})
		defer done()
		look = running.look
	}
	for {
		our, ourErr := look()
		their, theirErr := theirs.look()
		if err := errors.Join(named("ours", ourErr), named("Consul", theirErr)); err != nil {
			return nil, err
		}
		found := compare.Resources(our.set, their.set, facts)
		if our.whole && their.whole && len(compare.Unintended(found)) == 0 {
			return found, nil
		}
		select {
		case <-waiting.Done():
			if len(their.set) == 0 || len(our.set) == 0 {
				return nil, errors.New("nothing was sent in time")
			}
			return found, nil
		case <-our.changed:
		case <-their.changed:
		}
	}
}

// named says whose error it is; nil for none.
func named(whose string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", whose, err)
}
