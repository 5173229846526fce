package check

import (
	"cmp"
	"strings"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/consul"
)

// Facts are all that is judged.
type Facts struct {
	// From is the machine that gathered them.
	From   string
	Agents []AgentFacts
	// Services are those whose certificates were asked about.
	Services []string
	// Paths are the network paths that were tried.
	Paths []PathFacts
	// Bus is nil when the log is not asked.
	Bus *BusFacts
	// Extra are findings that others have made.
	Extra []Finding
}

// AgentFacts are what one agent said.
type AgentFacts struct {
	// Given is the datacenter that it was said to be of; may be empty. URL is where
	// it was asked.
	Given, URL string
	// Err is why it does not answer at all; then there is nothing else.
	Err error
	// Self is nil where SelfErr is not.
	Self    *consul.Self
	SelfErr error
	// Version is what it tells everybody; empty if it does not.
	Version string
	// Home: this machine is in its datacenter.
	Home bool
	// Anonymous: it was asked without a token.
	Anonymous bool
	// Controlled: access control is on, as far as can be told.
	Controlled bool

	Clock    consul.Clock
	ClockErr error
	LAN, WAN []consul.Member
	// MembersErr is why LAN and WAN are not known, or not whole.
	MembersErr error
	// TrustDomain of the roots.
	TrustDomain    string
	RootsErr       error
	Datacenters    []string
	DatacentersErr error
	Rights         []consul.Right
	Catalog        *CatalogFacts
	// Through is what it says of other datacenters, by their names.
	Through map[string]ThroughFacts
}

// ThroughFacts are what an agent says of another datacenter (?dc=).
type ThroughFacts struct {
	// CatalogErr is why it has no answer from there.
	CatalogErr  error
	TrustDomain string
	RootsErr    error
	// Catalog is read where no agent of that datacenter is asked.
	Catalog *CatalogFacts
}

// CatalogFacts are a datacenter's catalog.
type CatalogFacts struct {
	Err     error
	Nodes   []*consul.NodeState
	Entries []*isthmusv1.ConfigEntry
	// Roots may be nil.
	Roots *isthmusv1.CARoots
	// Partial is why rows may be missing; empty: none are.
	Partial string
}

// Outcome is how a try to connect ended.
type Outcome int

// Outcomes.
const (
	// Reached: the service behind the path showed its certificate and asked for one.
	Reached Outcome = iota
	// Connected: a connection stands, and there is no name to ask for.
	Connected
	// NotConnected: no TCP connection.
	NotConnected
	// NotPassed: a connection, which was closed without an answer to the name.
	NotPassed
	// NotMesh: an answer, but no proxy of the mesh: it asks for no certificate.
	NotMesh
	// Impostor: another service answered, or one of another trust domain.
	Impostor
)

// PathFacts are how one network path was found.
type PathFacts struct {
	// Gateway: to a mesh gateway, else to a proxy.
	Gateway bool
	// Datacenter of the other end, and its NODE/ID.
	Datacenter, Name string
	// WAN: to the WAN address, else the LAN address.
	WAN     bool
	Address string
	// SNI that was asked for, and Service behind it; may be empty.
	SNI, Service string
	Outcome      Outcome
	// Err is why, when it was not reached.
	Err  error
	Took time.Duration
	// Skipped is how many others like it were not tried.
	Skipped int
}

// BusFacts are what the log says.
type BusFacts struct {
	Err         error
	Datacenters []BusDatacenter
}

// BusDatacenter is what the log says of one datacenter.
type BusDatacenter struct {
	Datacenter string
	// Catalog and Routes are nil where there is no such stream.
	Catalog, Routes *StreamFacts
	// Compared: the catalog was compared with a fresh reading, and Differing are
	// the keys that stayed different; CompareErr is why it was not.
	Compared   bool
	Differing  []string
	CompareErr error
	// Behind are the catalogs that the routes are not the newest of, in words.
	Behind []string
	// ReportsErr is why reports could not be read.
	ReportsErr error
	Gateways   []GatewayFacts
	Proxies    []ProxyFacts
}

// elsewhere reports whether the datacenter's routes and reports are in a domain of
// their own, of which the log that is asked mirrors the catalog alone.
func (d *BusDatacenter) elsewhere() bool {
	return d.Routes == nil && d.Catalog != nil && d.Catalog.Mirrored
}

// StreamFacts are what is known of one stream.
type StreamFacts struct {
	// Sequence of the last closed transaction.
	Sequence uint64
	// Filled: the first fill is whole.
	Filled bool
	// Owner of the heartbeat that was heard; empty: none was.
	Owner string
	// SourceLost is what the heartbeat said.
	SourceLost bool
	// Mirrored: the stream is a mirror, and was heard of its origin Active ago;
	// negative: never.
	Mirrored bool
	Active   time.Duration
}

// GatewayFacts are what a mesh gateway reports.
type GatewayFacts struct {
	Name       string
	Registered bool
	// State is what it does; empty when it has never reported.
	State string
	// Age of the report; meaningful only with a State.
	Age time.Duration
	// Behind is how many messages of the routes it has not taken in.
	Behind     uint64
	SavedTable bool
	// Away: an Envoy that is connected to no xds node.
	Away bool
}

// ProxyFacts are what is reported of a proxy.
type ProxyFacts struct {
	Proxy     string
	Reporter  string
	Connected bool
	// Nack is the last refusal, in words; empty: none.
	Nack string
	// Problems that its routes state.
	Problems []string
}

// datacenter is the name that an agent says it is of, else what it was said to be
// of, else its address.
func (a *AgentFacts) datacenter() string {
	name := ""
	if a.Self != nil {
		name = a.Self.Datacenter
	}
	for _, m := range a.LAN {
		name = cmp.Or(name, m.Datacenter)
	}
	return strings.ToLower(cmp.Or(name, a.Given, a.URL))
}

// named reports whether it is known of which datacenter the agent is.
func (a *AgentFacts) named() bool {
	return a.datacenter() != strings.ToLower(a.URL)
}

// subject names an agent.
func (a *AgentFacts) subject() string {
	if a.Self != nil {
		return "agent " + a.Self.NodeName
	}
	return "agent at " + a.URL
}

// server reports whether the agent is a server, as far as is known.
func (a *AgentFacts) server() bool { return a.Self != nil && a.Self.Server }
