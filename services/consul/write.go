package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// ErrNotWritable says that a value holds something that this package reads but does
// not write: it writes what a demo needs.
var ErrNotWritable = errors.New("this cannot be written into Consul here")

// Register writes an instance and its node into the catalog, as they are: no agent
// looks after them. A nil instance writes the node alone. Possible error:
// [ErrNotWritable].
func (c *Client) Register(ctx context.Context, node *isthmusv1.Node, i *isthmusv1.ServiceInstance) error {
	r := &api.CatalogRegistration{
		ID: node.GetId(), Node: node.GetName(), Address: node.GetAddress(), NodeMeta: pairMap(node.GetMeta()),
		TaggedAddresses: make(map[string]string),
	}
	for _, a := range node.GetTaggedAddresses() {
		r.TaggedAddresses[a.GetTag()] = a.GetAddress()
	}
	what := "registration of " + node.GetName()
	if i != nil {
		what += "/" + i.GetId()
		r.Service = serviceOf(i)
		for _, check := range i.GetChecks() {
			r.Checks = append(r.Checks, &api.HealthCheck{
				Node: node.GetName(), CheckID: check.GetCheckId(), Name: check.GetName(), Status: check.GetStatus(), Type: check.GetType(),
				ServiceID: i.GetId(), ServiceName: i.GetName(),
			})
		}
		if back := instance(node.GetName(), r.Service, i.GetChecks()); !proto.Equal(back, i) {
			return fmt.Errorf("%s: %w", what, ErrNotWritable)
		}
	}
	o, err := c.writing(ctx)
	if err != nil {
		return err
	}
	if _, err := c.api.Catalog().Register(r, o); err != nil {
		return failed(ctx, what, err)
	}
	return nil
}

// WriteEntry writes a config entry, whatever stood there. Possible error:
// [ErrNotWritable].
func (c *Client) WriteEntry(ctx context.Context, e *isthmusv1.ConfigEntry) error {
	what := "config entry " + e.GetKind() + "/" + e.GetName()
	out := entryOf(e)
	if out == nil {
		return fmt.Errorf("%s: %w", what, ErrNotWritable)
	}
	back, err := entry(out)
	if err != nil {
		return err
	}
	want := proto.CloneOf(e)
	if sources := want.GetServiceIntentions().GetSources(); sources != nil { // In what order they stand means nothing.
		sortedBy(sources, intentionOrder)
	}
	if !proto.Equal(back, want) {
		return fmt.Errorf("%s: %w", what, ErrNotWritable)
	}
	o, err := c.writing(ctx)
	if err != nil {
		return err
	}
	if _, _, err := c.api.ConfigEntries().Set(out, o); err != nil {
		return failed(ctx, what, err)
	}
	return nil
}

func (c *Client) writing(ctx context.Context) (*api.WriteOptions, error) {
	token, err := c.token.get()
	if err != nil {
		return nil, err
	}
	return (&api.WriteOptions{Token: token}).WithContext(ctx), nil
}

// serviceOf is the reverse of instance, for what can be registered.
func serviceOf(i *isthmusv1.ServiceInstance) *api.AgentService {
	s := &api.AgentService{
		Kind: api.ServiceKind(i.GetKind()), ID: i.GetId(), Service: i.GetName(), Address: i.GetAddress(), Port: int(i.GetPort()),
		SocketPath: i.GetSocketPath(), Tags: i.GetTags(), Meta: pairMap(i.GetMeta()), EnableTagOverride: i.GetEnableTagOverride(),
		TaggedAddresses: make(map[string]api.ServiceAddress), Weights: api.AgentWeights{Passing: 1, Warning: 1},
		Connect: &api.AgentServiceConnect{Native: i.GetConnectNative()},
	}
	for _, a := range i.GetTaggedAddresses() {
		s.TaggedAddresses[a.GetTag()] = api.ServiceAddress{Address: a.GetAddress(), Port: int(a.GetPort())}
	}
	if w := i.GetWeights(); w != nil {
		s.Weights = api.AgentWeights{Passing: int(w.GetPassing()), Warning: int(w.GetWarning())}
	}
	if p := i.GetProxy(); p != nil {
		s.Proxy = &api.AgentServiceConnectProxyConfig{
			DestinationServiceName: p.GetDestinationServiceName(), DestinationServiceID: p.GetDestinationServiceId(),
			LocalServiceAddress: p.GetLocalServiceAddress(), LocalServicePort: int(p.GetLocalServicePort()),
			LocalServiceSocketPath: p.GetLocalServiceSocketPath(), Mode: api.ProxyMode(p.GetMode()),
			Config: objectOf(p.GetConfigJson()), MeshGateway: meshGatewayOf(p.GetMeshGateway()),
		}
		for _, u := range p.GetUpstreams() {
			s.Proxy.Upstreams = append(s.Proxy.Upstreams, upstreamOf(u))
		}
	}
	return s
}

func upstreamOf(u *isthmusv1.Upstream) api.Upstream {
	return api.Upstream{
		DestinationType: api.UpstreamDestType(u.GetDestinationType()), DestinationName: u.GetDestinationName(), Datacenter: u.GetDatacenter(),
		LocalBindAddress: u.GetLocalBindAddress(), LocalBindPort: int(u.GetLocalBindPort()),
		LocalBindSocketPath: u.GetLocalBindSocketPath(), LocalBindSocketMode: u.GetLocalBindSocketMode(),
		Config: objectOf(u.GetConfigJson()), MeshGateway: meshGatewayOf(u.GetMeshGateway()),
	}
}

// entryOf is the reverse of entry, for some kinds; nil: not for this one.
func entryOf(e *isthmusv1.ConfigEntry) api.ConfigEntry {
	switch e.GetEntry().(type) {
	case *isthmusv1.ConfigEntry_ProxyDefaults:
		p := e.GetProxyDefaults()
		return &api.ProxyConfigEntry{
			Kind: e.GetKind(), Name: e.GetName(), Meta: pairMap(e.GetMeta()),
			Config: objectOf(p.GetConfigJson()), MeshGateway: meshGatewayOf(p.GetMeshGateway()), AccessLogs: accessLogsOf(p.GetAccessLogs()),
		}
	case *isthmusv1.ConfigEntry_ServiceDefaults:
		s := e.GetServiceDefaults()
		return &api.ServiceConfigEntry{
			Kind: e.GetKind(), Name: e.GetName(), Meta: pairMap(e.GetMeta()),
			Protocol: s.GetProtocol(), MeshGateway: meshGatewayOf(s.GetMeshGateway()),
		}
	case *isthmusv1.ConfigEntry_ServiceIntentions:
		out := &api.ServiceIntentionsConfigEntry{Kind: e.GetKind(), Name: e.GetName(), Meta: pairMap(e.GetMeta())}
		for _, s := range e.GetServiceIntentions().GetSources() {
			out.Sources = append(out.Sources, &api.SourceIntention{
				Name: s.GetName(), Action: api.IntentionAction(s.GetAction()), Description: s.GetDescription(),
			})
		}
		return out
	}
	return nil
}

func meshGatewayOf(m *isthmusv1.MeshGateway) api.MeshGatewayConfig {
	return api.MeshGatewayConfig{Mode: api.MeshGatewayMode(m.GetMode())}
}

func accessLogsOf(a *isthmusv1.AccessLogs) *api.AccessLogsConfig {
	if a == nil {
		return nil
	}
	return &api.AccessLogsConfig{
		Enabled: a.GetEnabled(), DisableListenerLogs: a.GetDisableListenerLogs(), Type: api.LogSinkType(a.GetType()), Path: a.GetPath(),
		JSONFormat: a.GetJsonFormat(), TextFormat: a.GetTextFormat(),
	}
}

func pairMap(list []*isthmusv1.KeyValue) map[string]string {
	out := make(map[string]string, len(list))
	for _, p := range list {
		out[p.GetKey()] = p.GetValue()
	}
	return out
}

// objectOf reads canonical JSON; what is no object is nothing, which whoever writes
// notices when it reads back.
func objectOf(text []byte) map[string]any {
	var out map[string]any
	if json.Unmarshal(text, &out) != nil {
		return nil
	}
	return out
}
