package consul

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// NodeState is one node and everything registered on it.
type NodeState struct {
	Node *isthmusv1.Node
	// Instances sorted by namespace and ID.
	Instances []*isthmusv1.ServiceInstance
	// Agent: an agent runs on the node, so that its registrations are the agent's
	// and show what config entries merge into them. Without one they are as they
	// were written by catalog/register.
	Agent bool
}

// NodeMemory is what was last read of one node, so that reading it again costs what
// has changed: an instance of which Consul says the same, byte for byte, is the same
// pointer again. Instances read with it must not be written to. The zero value is
// ready; it is not for use by several goroutines at once.
type NodeMemory struct {
	services map[[sha256.Size]byte]knownService
}

// knownService is what a text of Consul's was converted to.
type knownService struct {
	id, namespace string
	// peer exported it; it is not of this datacenter then.
	peer string
	// instance was made with the checks, and with merged.
	instance *isthmusv1.ServiceInstance
	checks   []checkDump
	merged   bool
}

// serfHealth is the check that only a node with an agent has: the agent's own,
// made by the servers (structs.SerfCheckID).
const serfHealth = "serfHealth"

// nodeDump is one answer of internal/ui/node: a node with its services and all
// checks.
type nodeDump struct {
	ID              string
	Node            string
	Partition       string
	PeerName        string
	Address         string
	TaggedAddresses map[string]string
	Meta            map[string]string
	Locality        *api.Locality
	Services        []json.RawMessage
	Checks          []checkDump
}

// checkDump is what matters of a health check.
type checkDump struct {
	CheckID, Name, Status, Type    string
	ServiceID, Namespace, PeerName string
}

// Node reads a node with its services and checks, in one query
// (agent/ui_endpoint.go, UINodeInfo). Its index moves with what is registered on
// that node. Possible error: [ErrNotFound], which a node gives that is not there,
// or that the token may not see.
func (c *Client) Node(ctx context.Context, name string, q Query) (*NodeState, Answer, error) {
	return c.NodeAgain(ctx, name, q, &NodeMemory{}, false)
}

// NodeAgain is [Client.Node] for a node that was read before. centralConfig says
// whether agents merge config entries into the proxies that they register, which
// the instances then state.
func (c *Client) NodeAgain(ctx context.Context, name string, q Query, memory *NodeMemory, centralConfig bool) (*NodeState, Answer, error) {
	var dump *nodeDump
	answer, err := c.get(ctx, "/v1/internal/ui/node/"+name, q, &dump)
	if err != nil {
		return nil, answer, err
	}
	if dump == nil {
		return nil, answer, fmt.Errorf("node %s: %w", name, ErrNotFound)
	}
	if !strings.EqualFold(dump.Node, name) { // A path like a//b leads to a/b.
		return nil, answer, fmt.Errorf("node %q: %w: it answered about the node %q", name, errOtherNode, dump.Node)
	}
	state, err := dump.state(memory, centralConfig)
	return state, answer, err
}

// errOtherNode: Consul's paths cannot name every node that its catalog can hold.
var errOtherNode = errors.New("no path of Consul's leads to a node of this name")

// AllNodes reads every node with its services and checks in one query, which costs
// Consul the whole catalog at every change. centralConfig is as of
// [Client.NodeAgain].
func (c *Client) AllNodes(ctx context.Context, q Query, centralConfig bool) ([]*NodeState, Answer, error) {
	var dumps []*nodeDump
	answer, err := c.get(ctx, "/v1/internal/ui/nodes", q, &dumps)
	if err != nil {
		return nil, answer, err
	}
	var states []*NodeState
	for _, d := range dumps {
		if d.PeerName != "" {
			continue
		}
		state, err := d.state(&NodeMemory{}, centralConfig)
		if err != nil {
			return nil, answer, err
		}
		states = append(states, state)
	}
	return states, answer, nil
}

// state converts a dump, but for what the memory has.
func (d *nodeDump) state(memory *NodeMemory, centralConfig bool) (*NodeState, error) {
	s := &NodeState{Node: &isthmusv1.Node{
		Name: d.Node, Id: d.ID, Partition: plainName(d.Partition), Address: d.Address,
		TaggedAddresses: nodeAddresses(d.TaggedAddresses), Meta: pairs(d.Meta), Locality: locality(d.Locality),
	}}
	checks := map[string][]checkDump{}
	for _, c := range d.Checks {
		switch {
		case c.PeerName != "":
		case c.ServiceID == "":
			s.Agent = s.Agent || c.CheckID == serfHealth
			s.Node.Checks = append(s.Node.Checks, c.check())
		default:
			id := plainName(c.Namespace) + "/" + c.ServiceID
			checks[id] = append(checks[id], c)
		}
	}
	sortChecks(s.Node.Checks)
	known := make(map[[sha256.Size]byte]knownService, len(d.Services))
	for _, text := range d.Services {
		digest := sha256.Sum256(text)
		service, err := d.service(text, memory.services[digest], checks, s.Agent && centralConfig)
		if err != nil {
			return nil, err
		}
		known[digest] = service
		if service.peer == "" {
			s.Instances = append(s.Instances, service.instance)
		}
	}
	memory.services = known
	slices.SortFunc(s.Instances, func(a, b *isthmusv1.ServiceInstance) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetId(), b.GetId()))
	})
	return s, nil
}

// service converts a service, unless it is known just so.
func (d *nodeDump) service(text []byte, known knownService, checks map[string][]checkDump, merged bool) (knownService, error) {
	if known.id != "" && (known.peer != "" || known.merged == merged && slices.Equal(known.checks, checks[known.key()])) {
		return known, nil
	}
	var s api.AgentService
	if err := json.Unmarshal(text, &s); err != nil {
		return known, fmt.Errorf("a service of node %s: %w", d.Node, err)
	}
	known = knownService{id: s.ID, namespace: plainName(s.Namespace), peer: s.PeerName, merged: merged}
	known.checks = checks[known.key()]
	var own []*isthmusv1.Check
	for _, c := range known.checks {
		own = append(own, c.check())
	}
	sortChecks(own)
	known.instance = instance(d.Node, &s, own)
	known.instance.MergedCentralConfig = merged && known.instance.GetProxy() != nil
	return known, nil
}

// key is what the checks of a service are found by.
func (k *knownService) key() string { return k.namespace + "/" + k.id }

func (c *checkDump) check() *isthmusv1.Check {
	return &isthmusv1.Check{CheckId: c.CheckID, Name: c.Name, Status: c.Status, Type: c.Type}
}

func sortChecks(checks []*isthmusv1.Check) {
	slices.SortFunc(checks, func(a, b *isthmusv1.Check) int { return cmp.Compare(a.GetCheckId(), b.GetCheckId()) })
}
