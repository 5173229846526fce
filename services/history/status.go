package history

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Status is what a datacenter's catalog, routes and reports say together. Who
// is registered comes from the log; what runs comes from reports, which are not
// truth, so each has its age.
type Status struct {
	Datacenter string          `json:"datacenter"`
	Gateways   []GatewayStatus `json:"gateways"`
	Proxies    []ProxyStatus   `json:"proxies"`
}

// GatewayStatus is one mesh gateway.
type GatewayStatus struct {
	Datacenter string `json:"datacenter"`
	// Name is NODE/ID of the registration, or the reporter's own name when the
	// catalog has no such gateway.
	Name string `json:"name"`
	// Registered says whether the catalog has it, and Health what its checks say:
	// healthy or unhealthy; empty when it is not registered.
	Registered bool   `json:"registered"`
	Health     string `json:"health"`
	// LAN and WAN are the registered addresses, Listen those that it reports.
	LAN    string   `json:"lan"`
	WAN    string   `json:"wan"`
	Listen []string `json:"listen"`
	// State is what it reports to be doing; empty when it has never reported.
	State string `json:"state"`
	// SavedTable: it serves by a saved file, not yet by the log.
	SavedTable bool `json:"saved_table"`
	Connections
	Progress
	// Ejected are the endpoints that it has left out, since they do not answer.
	Ejected []string `json:"ejected"`
	// NotHonoured are settings of its registration that it does not go by, and
	// Problems what is wrong with its registration or its listeners.
	NotHonoured []string        `json:"not_honoured"`
	Problems    []AnswerProblem `json:"problems"`
	// Admin is the address of its admin server.
	Admin string `json:"admin,omitzero"`
}

// Connections are what a gateway counted since it started.
type Connections struct {
	Open     uint64 `json:"connections_open"`
	Total    uint64 `json:"connections_total"`
	Refused  uint64 `json:"connections_refused"`
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
}

// Progress is how far a data plane node is with the routes.
type Progress struct {
	// Routes is the sequence of ROUTES_<dc> that it runs, Head that stream's end.
	Routes uint64 `json:"routes_sequence"`
	Head   uint64 `json:"routes_head"`
	// Age is the time since its last report, in seconds; null when there is none.
	Age *float64 `json:"age_seconds"`
}

// StatusAt reads a datacenter's status; now is what ages are counted to.
//
// Possible errors: [bus.ErrNoStream] when the datacenter has no catalog.
func StatusAt(ctx context.Context, log bus.Log, datacenter string, now time.Time) (*Status, error) {
	catalog, err := values(ctx, log, isthmusv1.StreamName(isthmusv1.ClassCatalog, datacenter))
	if err != nil {
		return nil, err
	}
	routes, err := values(ctx, log, isthmusv1.StreamName(isthmusv1.ClassRoutes, datacenter))
	if err != nil && !errors.Is(err, bus.ErrNoStream) {
		return nil, err
	}
	reports, err := readReports(ctx, log, datacenter, now)
	if err != nil {
		return nil, err
	}
	s := &Status{Datacenter: datacenter}
	s.Gateways = gatewayStatuses(datacenter, catalog, reports, routes.head)
	s.Proxies = proxyStatuses(datacenter, routes, reports)
	return s, s.measure(ctx, log, routes, now)
}

// snapshot is a stream's values at its end.
type snapshot struct {
	values map[isthmusv1.Key]proto.Message
	// incarnation and head are the stream's.
	incarnation string
	head        uint64
}

// values reads a stream's values at its end.
func values(ctx context.Context, log bus.Log, stream string) (snapshot, error) {
	if _, err := log.State(ctx, stream); err != nil {
		return snapshot{}, err
	}
	s := snapshot{values: make(map[isthmusv1.Key]proto.Message)}
	drive := bus.Drive{
		Log: log, Streams: []string{stream},
		Machine: bus.MachineFunc(func(t *isthmusv1.Transaction) {
			if t.Reset {
				clear(s.values)
			}
			for _, c := range t.Changes {
				if c.Tombstone {
					delete(s.values, c.Key)
				} else {
					s.values[c.Key] = c.Value
				}
			}
			s.incarnation, s.head = t.Incarnation, t.Sequence
		}),
		Emit: func(context.Context, *isthmusv1.Basis) error { return errSettled },
	}
	if err := drive.Run(ctx); !errors.Is(err, errSettled) {
		return snapshot{}, errors.Join(err, drive.Ready())
	}
	return s, nil
}

// sorted yields the values of a kind, by key.
func sorted[M proto.Message](s snapshot, kind isthmusv1.Kind) []M {
	var keys []isthmusv1.Key
	for key := range s.values {
		if key.Kind == kind {
			keys = append(keys, key)
		}
	}
	isthmusv1.SortKeys(keys)
	out := make([]M, 0, len(keys))
	for _, key := range keys {
		if m, ok := s.values[key].(M); ok {
			out = append(out, m)
		}
	}
	return out
}

// gatewayStatuses lists the registered gateways, then those that report and are
// not registered.
func gatewayStatuses(datacenter string, catalog snapshot, reports []*report, head uint64) []GatewayStatus {
	nodes := make(map[string]*isthmusv1.Node)
	for _, n := range sorted[*isthmusv1.Node](catalog, isthmusv1.KindNode) {
		nodes[strings.ToLower(n.GetName())] = n
	}
	out := []GatewayStatus{}
	for _, i := range sorted[*isthmusv1.ServiceInstance](catalog, isthmusv1.KindInstance) {
		if i.GetKind() != isthmusv1.InstanceKindMeshGateway {
			continue
		}
		node := nodes[strings.ToLower(i.GetNode())]
		health, _ := isthmusv1.InstanceHealth(node, i, false)
		g := GatewayStatus{
			Datacenter: datacenter, Name: i.GetNode() + "/" + i.GetId(), Registered: true, Health: healthName(health),
			LAN: hostPort(isthmusv1.LANAddress(node, i)), WAN: hostPort(isthmusv1.WANAddress(node, i)),
			Listen: []string{}, Ejected: []string{}, NotHonoured: []string{}, Problems: []AnswerProblem{}, Progress: Progress{Head: head},
		}
		if r := findReport(reports, i, g.LAN, g.WAN); r != nil {
			g.take(r)
		} else {
			g.takeEnvoy(reports)
		}
		out = append(out, g)
	}
	for _, r := range reports {
		if r.gateway != nil && !r.used {
			g := GatewayStatus{Datacenter: datacenter, Name: r.name, Progress: Progress{Head: head}}
			g.take(r)
			out = append(out, g)
		}
	}
	return out
}

// findReport finds the report of a registered gateway: by the registration that
// it says to run by, by its name, which is the
// node's, the instance's or NODE/ID, else by an address that it listens on.
func findReport(reports []*report, i *isthmusv1.ServiceInstance, addresses ...string) *report {
	names := []string{i.GetNode() + "/" + i.GetId(), i.GetNode(), i.GetId()}
	for _, r := range reports {
		if r.gateway != nil && !r.used && strings.EqualFold(r.gateway.GetProxy(), names[0]) {
			return r
		}
	}
	for _, name := range names {
		for _, r := range reports {
			if r.gateway != nil && !r.used && strings.EqualFold(r.name, name) {
				return r
			}
		}
	}
	for _, r := range reports {
		if r.gateway != nil && !r.used && slices.ContainsFunc(r.gateway.GetListenAddresses(), func(a string) bool { return slices.Contains(addresses, a) }) {
			return r
		}
	}
	return nil
}

// take takes in what a gateway reports.
func (g *GatewayStatus) take(r *report) {
	r.used = true
	s := r.gateway
	g.State, g.SavedTable, g.Admin = s.GetState(), s.GetFromSavedTable(), s.GetAdminAddress()
	g.Listen = append([]string{}, s.GetListenAddresses()...)
	g.Connections = Connections{
		Open: s.GetConnectionsOpen(), Total: s.GetConnectionsTotal(), Refused: s.GetConnectionsRefused(),
		BytesIn: s.GetBytesIn(), BytesOut: s.GetBytesOut(),
	}
	g.NotHonoured, g.Problems = append([]string{}, s.GetNotHonoured()...), newProblems(s.GetProblems())
	g.Routes, g.Age = s.GetRoutes().GetSequence(), &r.age
	g.Ejected = []string{}
	for _, e := range s.GetEndpoints() {
		if e.GetEjected() {
			g.Ejected = append(g.Ejected, e.GetAddress())
		}
	}
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}
