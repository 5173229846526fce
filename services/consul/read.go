package consul

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Nodes lists the names of all nodes, sorted. Its index moves with every change of
// any node.
func (c *Client) Nodes(ctx context.Context, q Query) ([]string, Answer, error) {
	var nodes []*api.Node
	answer, err := c.get(ctx, "/v1/catalog/nodes", q, &nodes)
	if err != nil {
		return nil, answer, err
	}
	names := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if n.PeerName == "" {
			names = append(names, n.Node)
		}
	}
	slices.Sort(names)
	return names, answer, nil
}

// ConfigEntries reads all entries of one kind, sorted by name.
func (c *Client) ConfigEntries(ctx context.Context, kind string, q Query) ([]*isthmusv1.ConfigEntry, Answer, error) {
	options, cancel, err := c.options(ctx, q)
	if err != nil {
		return nil, Answer{}, err
	}
	defer cancel()
	list, meta, err := c.api.ConfigEntries().List(kind, options)
	if err != nil {
		return nil, Answer{}, failed(ctx, "config entries of kind "+kind, err)
	}
	entries := make([]*isthmusv1.ConfigEntry, 0, len(list))
	for _, e := range list {
		converted, err := entry(e)
		if err != nil {
			return nil, Answer{}, err
		}
		entries = append(entries, converted)
	}
	sortedBy(entries, func(e *isthmusv1.ConfigEntry) string {
		return isthmusv1.Qualified(e.GetPartition(), e.GetNamespace(), e.GetName())
	})
	return entries, answered(meta, options), nil
}

// MayReadExportedServices asks for the entry of the default partition, there or
// not. Possible error: [ErrDenied], where the list of that kind is empty without
// saying that it was filtered.
func (c *Client) MayReadExportedServices(ctx context.Context) error {
	var e map[string]any
	if _, err := c.get(ctx, "/v1/config/exported-services/default", Query{}, &e); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// rootList is the answer of connect/ca/roots; the API's own type leaves out the
// intermediates, without which a secondary datacenter's leaves have no chain.
type rootList struct {
	ActiveRootID, TrustDomain string
	Roots                     []struct {
		ID, Name, RootCert  string
		IntermediateCerts   []string
		Active              bool
		NotBefore, NotAfter time.Time
	}
}

// Roots reads the datacenter's trust: the roots with their intermediates, the
// trust domain. [ErrUnavailable] also where Connect is disabled.
func (c *Client) Roots(ctx context.Context, q Query) (*isthmusv1.CARoots, Answer, error) {
	return c.roots(ctx, "/v1/connect/ca/roots", q)
}

// roots reads them at the servers' path, or at the agent's, which keeps a copy.
func (c *Client) roots(ctx context.Context, path string, q Query) (*isthmusv1.CARoots, Answer, error) {
	var list rootList
	answer, err := c.get(ctx, path, q, &list)
	if err != nil {
		return nil, answer, err
	}
	out := &isthmusv1.CARoots{TrustDomain: strings.ToLower(list.TrustDomain), ActiveRootId: list.ActiveRootID}
	for _, r := range list.Roots {
		out.Roots = append(out.Roots, &isthmusv1.CARoot{
			Id: r.ID, Name: r.Name, RootCertPem: r.RootCert, IntermediateCertsPem: r.IntermediateCerts, Active: r.Active,
			NotBefore: timestamppb.New(r.NotBefore), NotAfter: timestamppb.New(r.NotAfter),
		})
	}
	sortedBy(out.Roots, (*isthmusv1.CARoot).GetId)
	return out, answer, nil
}

// Datacenters lists all datacenters that the agent's servers know, sorted; those
// that are away included, for up to 72 hours.
func (c *Client) Datacenters(ctx context.Context) ([]string, error) {
	var names []string
	if _, err := c.get(ctx, "/v1/catalog/datacenters", Query{}, &names); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// Leader is the address of the leader of the agent's datacenter; empty: there is
// none now.
func (c *Client) Leader(ctx context.Context) (string, error) {
	var address string
	_, err := c.get(ctx, "/v1/status/leader", Query{}, &address)
	return address, err
}

// PreparedQuery executes a prepared query through the agent, which is never
// blocking. [ErrNotFound]: there is none of that name.
func (c *Client) PreparedQuery(ctx context.Context, name string) (*isthmusv1.PreparedQuery, error) {
	options, cancel, err := c.options(ctx, Query{})
	if err != nil {
		return nil, err
	}
	defer cancel()
	options.Connect = true
	var response api.PreparedQueryExecuteResponse
	path := "/v1/query/" + name + "/execute" // The API's client escapes it.
	if _, err := c.api.Raw().Query(path, &response, options); err != nil {
		return nil, failed(ctx, path, err)
	}
	out := &isthmusv1.PreparedQuery{Name: name, Service: response.Service}
	for _, n := range response.Nodes {
		if n.Service == nil || n.Node == nil {
			continue
		}
		result := &isthmusv1.PreparedQueryResult{
			Datacenter: response.Datacenter, Node: n.Node.Node, InstanceId: n.Service.ID, Service: n.Service.Service,
			Address: n.Service.Address, Port: number(n.Service.Port), Weight: number(n.Service.Weights.Passing),
			Healthy:   n.Checks.AggregatedStatus() != api.HealthCritical,
			Namespace: plainName(n.Service.Namespace), Partition: plainName(n.Service.Partition),
		}
		if result.Address == "" {
			result.Address = n.Node.Address
		}
		out.Results = append(out.Results, result)
	}
	// Consul shuffles its answer.
	sortedBy(out.Results, func(r *isthmusv1.PreparedQueryResult) string {
		return r.GetDatacenter() + "\x00" + r.GetNode() + "\x00" + r.GetInstanceId()
	})
	return out, nil
}

// Self is what an agent says about itself (agent/self; agent:read).
type Self struct {
	Datacenter, PrimaryDatacenter, NodeName, NodeID, Version string
	Server                                                   bool
	// ConnectEnabled, CentralConfig and ACLsEnabled are the agent's settings.
	ConnectEnabled, CentralConfig, ACLsEnabled bool
	// DefaultIntentionPolicy is what holds where no intention does: the setting of
	// that name, else the default policy of access control where that is on, else
	// allow (agent/config/builder.go).
	DefaultIntentionPolicy string
	// GRPCPort and GRPCTLSPort serve Consul's own xDS; 0 or below: closed.
	GRPCPort, GRPCTLSPort int
}

// Self asks the agent about itself.
func (c *Client) Self(ctx context.Context) (Self, error) {
	var answer map[string]map[string]any
	if _, err := c.get(ctx, "/v1/agent/self", Query{}, &answer); err != nil {
		return Self{}, err
	}
	config, debug := answer["Config"], answer["DebugConfig"]
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	flag := func(key string) bool { b, _ := debug[key].(bool); return b }
	port := func(key string) int { n, _ := debug[key].(float64); return int(n) }
	server, _ := config["Server"].(bool)
	self := Self{
		Datacenter: text(config, "Datacenter"), PrimaryDatacenter: text(config, "PrimaryDatacenter"), NodeName: text(config, "NodeName"),
		NodeID: text(config, "NodeID"), Version: text(config, "Version"), Server: server,
		ConnectEnabled: flag("ConnectEnabled"), CentralConfig: flag("EnableCentralServiceConfig"), ACLsEnabled: flag("ACLsEnabled"),
		GRPCPort: port("GRPCPort"), GRPCTLSPort: port("GRPCTLSPort"),
	}
	if self.Datacenter == "" || len(debug) == 0 {
		return Self{}, errors.New("agent/self: the answer is not that of a Consul agent")
	}
	self.DefaultIntentionPolicy = intentionPolicy(self.ACLsEnabled, text(debug, "DefaultIntentionPolicy"), debug)
	return self, nil
}

// intentionPolicy follows Consul's order.
func intentionPolicy(aclsEnabled bool, own string, debug map[string]any) string {
	if own != "" {
		return own
	}
	if !aclsEnabled {
		return "allow"
	}
	settings, _ := debug["ACLResolverSettings"].(map[string]any)
	if policy, _ := settings["ACLDefaultPolicy"].(string); policy == "allow" {
		return "allow"
	}
	return "deny"
}
