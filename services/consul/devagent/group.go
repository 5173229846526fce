package devagent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// Group is several agents that belong together.
type Group []*Agent

// StartCluster runs servers of one datacenter, with durable state, and returns
// when all are ready. Of the template, what tells them apart is filled in: the
// node's name (with -1, -2, …), the directory below Dir, whom to join. Its
// address has to be unset.
func StartCluster(ctx context.Context, template Config, servers int) (Group, error) {
	template, err := template.complete()
	if err != nil {
		return nil, fmt.Errorf("consul cluster: %w", err)
	}
	configs := make([]Config, servers)
	for i := range configs {
		c := template
		c.Durable, c.BootstrapExpect = true, servers
		c.Node = fmt.Sprintf("%s-%d", template.Node, i+1)
		configs[i] = c
	}
	agents, err := prepareAll(ctx, configs)
	if err != nil {
		return nil, err
	}
	for _, a := range agents {
		for _, other := range agents {
			a.config.RetryJoin = append(a.config.RetryJoin, other.LAN)
		}
	}
	if err := agents.each(func(a *Agent) error { return a.run(ctx) }); err != nil {
		return nil, errors.Join(err, agents.Close())
	}
	return agents, nil
}

// StartFederation runs one server for each datacenter, the first of which is the
// primary, and returns when all are ready, list and reach each other, and sign
// leaves of one trust domain. Of the template, what tells them apart is filled
// in: datacenter and node's name, the directory below Dir, whom to join. Its
// address has to be unset.
func StartFederation(ctx context.Context, template Config, datacenters ...string) (Group, error) {
	if len(datacenters) == 0 {
		return nil, errors.New("consul federation: no datacenter is named")
	}
	configs := make([]Config, len(datacenters))
	for i, dc := range datacenters {
		c := template
		c.Datacenter, c.PrimaryDatacenter, c.Node = dc, datacenters[0], ""
		c, err := c.complete()
		if err != nil {
			return nil, fmt.Errorf("consul federation: %w", err)
		}
		configs[i] = c
	}
	agents, err := prepareAll(ctx, configs)
	if err != nil {
		return nil, err
	}
	for i, a := range agents {
		for _, other := range agents[:i] {
			a.config.RetryJoinWAN = append(a.config.RetryJoinWAN, other.WAN)
		}
	}
	run := func(a *Agent) error { return a.run(ctx) }
	// The primary first: started together, a secondary was ready up to 2 s later.
	if err := agents[:1].each(run); err != nil {
		return nil, errors.Join(err, agents.Close())
	}
	if err := agents[1:].each(run); err != nil {
		return nil, errors.Join(err, agents.Close())
	}
	if err := agents.AwaitFederation(ctx); err != nil {
		return nil, errors.Join(err, agents.Close())
	}
	return agents, nil
}

// AwaitFederation waits until the agents, each of another datacenter and the
// first of the primary, see each other again: after a restart, for example.
func (g Group) AwaitFederation(ctx context.Context) error {
	var datacenters []string
	for _, a := range g {
		datacenters = append(datacenters, a.Datacenter)
	}
	return g.each(func(a *Agent) error {
		return a.await(ctx, func(ctx context.Context) error {
			// Anew each time: a primary that starts with an empty state has a new one.
			trustDomain := ""
			if !a.config.NoConnect {
				var err error
				if trustDomain, err = g[0].TrustDomain(ctx); err != nil {
					return err
				}
			}
			return a.lookFederation(ctx, datacenters, trustDomain)
		})
	})
}

// prepareAll prepares agents, each with a directory of its own below that of all.
func prepareAll(ctx context.Context, configs []Config) (Group, error) {
	var agents Group
	for _, c := range configs {
		if c.Dir != "" {
			c.Dir = filepath.Join(c.Dir, c.Node)
		}
		a, err := prepare(ctx, c)
		if err != nil {
			return nil, errors.Join(err, agents.Close())
		}
		agents = append(agents, a)
	}
	return agents, nil
}

// each does something with all agents at the same time.
func (g Group) each(do func(*Agent) error) error {
	failures := make([]error, len(g))
	var group sync.WaitGroup
	for i, a := range g {
		group.Go(func() { failures[i] = do(a) })
	}
	group.Wait()
	return errors.Join(failures...)
}

// Close closes all agents.
func (g Group) Close() error { return g.each((*Agent).Close) }

// Leader waits until all of the servers that run and are not paused name the
// same one of them as their leader.
func (g Group) Leader(ctx context.Context) (*Agent, error) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		leader, err := g.agreed(ctx)
		if err == nil {
			return leader, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("consul leader: %w: %w", ctx.Err(), err)
		}
	}
}

// agreed is the leader that all name now.
func (g Group) agreed(ctx context.Context) (*Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var leader *Agent
	for _, a := range g {
		if !a.Running() {
			continue
		}
		address, err := a.leader(ctx)
		if err != nil {
			return nil, err
		}
		named := g.at(address)
		switch {
		case named == nil || !named.Running():
			return nil, fmt.Errorf("%s still names %s", a.Node, address)
		case leader != nil && leader != named:
			return nil, fmt.Errorf("%s names %s, another server %s", a.Node, named.Node, leader.Node)
		}
		leader = named
	}
	if leader == nil {
		return nil, errors.New("no server runs")
	}
	return leader, nil
}

// at is the agent with the RPC address.
func (g Group) at(address string) *Agent {
	for _, a := range g {
		if a.Server == address {
			return a
		}
	}
	return nil
}

// ClientConfig is the configuration of a client that joins the server; node is
// the client's name.
func (a *Agent) ClientConfig(node string) Config {
	c := a.config
	return Config{
		Binary: c.Binary, Datacenter: c.Datacenter, PrimaryDatacenter: c.PrimaryDatacenter, Node: node,
		Client: true, RetryJoin: []string{a.LAN}, ACL: c.ACL, CA: c.CA, NoConnect: c.NoConnect, Logger: c.Logger,
	}
}
