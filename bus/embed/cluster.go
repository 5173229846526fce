package embed

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster is several servers of one JetStream cluster in this process.
type Cluster struct {
	servers []*Server
	options []*server.Options
	given   Options
}

// StartCluster starts a cluster of n servers and waits until it has a leader
// and knows all its members. Each keeps its streams below options.StoreDir.
func StartCluster(n int, options Options) (*Cluster, error) {
	ports, err := freePorts(cmp.Or(options.Host, loopback), 2*n)
	if err != nil {
		return nil, err
	}
	routes, clients := ports[:n], ports[n:]
	c := &Cluster{given: options, servers: make([]*Server, n)}
	for i := range n {
		one := options
		one.Name = "isthmus-" + strconv.Itoa(i+1)
		one.Port = clients[i]
		one.StoreDir = filepath.Join(options.StoreDir, one.Name)
		o, err := serverOptions(one)
		if err != nil {
			return nil, err
		}
		o.Cluster = server.ClusterOpts{Name: "isthmus", Host: o.Host, Port: routes[i]}
		for _, port := range routes {
			o.Routes = append(o.Routes, server.RoutesFromStr("nats://"+net.JoinHostPort(o.Host, strconv.Itoa(port)))...)
		}
		c.options = append(c.options, o)
	}
	for i := range n {
		if err := c.Start(i); err != nil {
			c.Stop()
			return nil, err
		}
	}
	if err := c.waitWhole(); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// Start starts server i of the cluster, which must not be running.
func (c *Cluster) Start(i int) error {
	s, err := start(c.options[i].Clone(), c.given)
	if err != nil {
		return err
	}
	c.servers[i] = s
	return nil
}

// StopOne shuts server i down and waits for it.
func (c *Cluster) StopOne(i int) {
	if c.servers[i] != nil {
		c.servers[i].Stop()
		c.servers[i] = nil
	}
}

// Stop shuts all servers down.
func (c *Cluster) Stop() {
	for i := range c.servers {
		c.StopOne(i)
	}
}

// URL names all servers, for clients.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.options))
	for i, o := range c.options {
		urls[i] = "nats://" + net.JoinHostPort(o.Host, strconv.Itoa(o.Port))
	}
	return strings.Join(urls, ",")
}

// StreamLeader is the number of the server that leads a stream, or -1.
func (c *Cluster) StreamLeader(stream string) int {
	for i, s := range c.servers {
		if s != nil && s.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return i
		}
	}
	return -1
}

// waitWhole waits for a leader that knows all members.
func (c *Cluster) waitWhole() error {
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); {
		for _, s := range c.servers {
			if s.server.JetStreamIsLeader() && len(s.server.JetStreamClusterPeers()) == len(c.servers) {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond) // The server tells nobody.
	}
	return fmt.Errorf("cluster of %d without a leader: %w", len(c.servers), ErrNotReady)
}

// freePorts finds ports of a host that nobody listens on now.
func freePorts(host string, n int) ([]int, error) {
	var ports []int
	var errs []error
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, fmt.Errorf("embedded cluster: %w", err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		defer func() { errs = append(errs, l.Close()) }()
	}
	return ports, errors.Join(errs...)
}
