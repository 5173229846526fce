package bootstrap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Errors of [Render], wrapped with what they are about.
var (
	// ErrNoNodes indicates that no xds node was named.
	ErrNoNodes = errors.New("no xds node is named")
	// ErrNoTrust indicates secrets without what the nodes' identity is made of.
	ErrNoTrust = errors.New("mutual TLS with the xds nodes needs their trust domain and datacenter")
	// ErrNoAdmin indicates statistics to be served without an admin server that has them.
	ErrNoAdmin = errors.New("statistics are served by way of Envoy's admin server, and there is none")
	// ErrJSON indicates a text that is not the JSON that it should be.
	ErrJSON = errors.New("it is not the JSON that it should be")
	// ErrTemplate indicates a template that cannot be read or filled in.
	ErrTemplate = errors.New("the template is wrong")
	// ErrSink indicates a URL or an address to which no statistics can go.
	ErrSink = errors.New("it is not an address for statistics")
)

// Config says who an Envoy is, whom it asks, and what a user adds.
type Config struct {
	// ID of the proxy, and Node that it is registered on; empty where the ID is unique.
	ID, Node string
	// Service is the one that it is the proxy of, or the name that the gateway is
	// registered under. Empty: the ID.
	Service string
	// Datacenter and TrustDomain are the proxy's own; the xds nodes are of the same. They
	// may be empty without SDS.
	Datacenter, TrustDomain string
	// Nodes are the addresses of xds nodes, HOST:PORT each.
	Nodes []HostPort
	// SDS is the path of the socket where the secrets are had; empty: none, and the nodes
	// are spoken to in plain text.
	SDS string
	// PlainText has the nodes spoken to in plain text although there are secrets.
	PlainText bool
	// Admin is where Envoy's own admin server listens; zero: nowhere. AdminAccessLog is
	// the file of its access log; empty: /dev/null, as with Consul's command.
	Admin          netip.AddrPort
	AdminAccessLog string

	Stats Stats
	// Clusters and Listeners are added to those that Envoy starts with: one JSON object,
	// several by commas, or a list.
	Clusters, Listeners JSON
	// Tracing is Envoy's tracing, as a JSON object; empty: none.
	Tracing JSON
	// Template is put in place of everything; see [Fields]. Empty: none.
	Template Template
}

// JSON is a text of a user's, and where it is from: a flag, a file or a key.
type JSON struct {
	From, Text string
}

// HostPort is the address of an xds node; a host may be a name.
type HostPort struct {
	Host string
	Port uint16
}

// document is a bootstrap in the order in which a person reads it. Its parts are JSON, so
// that a user's have a place beside ours, whatever extensions they name.
type document struct {
	Node             json.RawMessage `json:"node"`
	Admin            json.RawMessage `json:"admin,omitempty"`
	DynamicResources json.RawMessage `json:"dynamic_resources"`
	StaticResources  static          `json:"static_resources"`
	StatsConfig      json.RawMessage `json:"stats_config"`
	StatsSinks       parts           `json:"stats_sinks,omitempty"`
	StatsFlush       string          `json:"stats_flush_interval,omitempty"`
	Tracing          json.RawMessage `json:"tracing,omitempty"`
	LayeredRuntime   json.RawMessage `json:"layered_runtime"`
}

type static struct {
	Listeners parts `json:"listeners,omitempty"`
	Clusters  parts `json:"clusters"`
}

// Render is the bootstrap, ready to be written to a file. Possible errors: [ErrNoNodes],
// [ErrNoTrust], [ErrNoAdmin], [ErrJSON], [ErrTemplate], [ErrSink]; all that is wrong is
// reported at once, but for what a template brings.
func Render(c Config) ([]byte, error) {
	c.AdminAccessLog = cmp.Or(c.AdminAccessLog, "/dev/null")
	c.Service = cmp.Or(c.Service, c.ID)
	d, err := c.document()
	if err != nil {
		return nil, err
	}
	text, err := indented(d)
	if err != nil || c.Template.Text == "" {
		return text, err
	}
	return c.Template.fill(c.fields(d, text))
}

// check finds what is missing.
func (c *Config) check() error {
	var errs []error
	if len(c.Nodes) == 0 {
		errs = append(errs, ErrNoNodes)
	}
	if c.mutual() && (c.Datacenter == "" || c.TrustDomain == "") {
		errs = append(errs, ErrNoTrust)
	}
	if c.Stats.served() && !c.Admin.IsValid() {
		errs = append(errs, ErrNoAdmin)
	}
	return errors.Join(errs...)
}

// mutual reports whether the nodes are spoken to over mutual TLS.
func (c *Config) mutual() bool { return c.SDS != "" && !c.PlainText }

func (c *Config) document() (document, error) {
	d := document{
		Node: marshal(c.node()),
		DynamicResources: marshal(&bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: &core.ApiConfigSource{
				ApiType: core.ApiConfigSource_DELTA_GRPC, TransportApiVersion: core.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
				GrpcServices: []*core.GrpcService{byCluster(xdsCluster, nodesAgain, nodesAgainAtMost)},
			},
			LdsConfig: byADS(), CdsConfig: byADS(),
		}),
		LayeredRuntime: runtime(),
	}
	if c.Admin.IsValid() {
		d.Admin = marshal(c.admin())
	}
	errs := []error{c.check()}
	keep := func(p parts, err error) parts {
		errs = append(errs, err)
		return p
	}
	one := func(of JSON) json.RawMessage {
		text, err := of.object()
		errs = append(errs, err)
		return text
	}
	d.StaticResources.Clusters = append(c.clusters(), keep(c.Clusters.objects())...)
	d.StaticResources.Listeners = append(keep(c.Stats.listeners()), keep(c.Listeners.objects())...)
	d.StatsSinks = append(keep(c.Stats.sinks()), keep(c.Stats.Sinks.objects())...)
	d.StatsFlush, d.Tracing = c.Stats.FlushInterval, one(c.Tracing)
	if d.StatsConfig = one(c.Stats.Config); d.StatsConfig == nil {
		config, err := c.statsConfig()
		errs = append(errs, err)
		d.StatsConfig = config
	}
	return d, errors.Join(errs...)
}

// node names the proxy as `consul connect envoy` does (Consul
// command/connect/envoy/bootstrap_tpl.go).
func (c *Config) node() *core.Node {
	fields := map[string]*structpb.Value{
		"namespace": structpb.NewStringValue(isthmusv1.DefaultName), "partition": structpb.NewStringValue(isthmusv1.DefaultName),
	}
	if c.Node != "" {
		fields["node_name"] = structpb.NewStringValue(c.Node)
	}
	return &core.Node{Id: c.ID, Cluster: c.Service, Metadata: &structpb.Struct{Fields: fields}}
}

// byADS has a type come by the one stream, and be waited for without end: an Envoy
// that went on without would serve nothing.
func byADS() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion: core.ApiVersion_V3, InitialFetchTimeout: durationpb.New(0),
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

// byCluster has a stream go by a cluster, and begun anew after the first time, which
// grows up to the second, of chance: Envoy's own would be half a minute.
func byCluster(name string, again, atMost time.Duration) *core.GrpcService {
	return &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{
		ClusterName: name,
		RetryPolicy: &core.RetryPolicy{RetryBackOff: &core.BackoffStrategy{BaseInterval: durationpb.New(again), MaxInterval: durationpb.New(atMost)}},
	}}}
}

// runtime lets regular expressions be as long as Consul's users have them: Envoy's own
// limit refuses a route of a hundred characters.
func runtime() json.RawMessage {
	return marshal(&bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "base",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: map[string]*structpb.Value{
			"re2.max_program_size.error_level": structpb.NewNumberValue(1 << 20),
		}}},
	}}})
}

// marshal is a message of ours as compact JSON, whose bytes do not depend on the
// library's build.
func marshal(m proto.Message) json.RawMessage {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	var out bytes.Buffer
	if err == nil {
		err = json.Compact(&out, text)
	}
	if err != nil {
		panic(fmt.Sprintf("bootstrap: %T: %v", m, err)) // Every string in it was checked to be UTF-8.
	}
	return out.Bytes()
}

// indented is the whole as a person reads it.
func indented(d document) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return out.Bytes(), nil
}
