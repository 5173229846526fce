package compare

import (
	"encoding/json"
	"fmt"
	"slices"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// Dump reads what an Envoy runs of what it was served: the answer of its admin server
// to /config_dump?include_eds. What stands in its bootstrap is left out, and what is
// still warming up or was refused, too. An error names a type of Envoy's that this
// program has not.
func Dump(answer []byte) (Set, error) {
	var dump struct{ Configs []json.RawMessage }
	if err := json.Unmarshal(answer, &dump); err != nil {
		return nil, fmt.Errorf("config dump: %w", err)
	}
	out := Set{}
	for _, text := range dump.Configs {
		var kind struct {
			Type string `json:"@type"`
		}
		if err := json.Unmarshal(text, &kind); err != nil {
			return nil, fmt.Errorf("config dump: %w", err)
		}
		if !slices.Contains(sections, kind.Type) {
			continue
		}
		packed := &anypb.Any{}
		if err := protojson.Unmarshal(text, packed); err != nil {
			return nil, fmt.Errorf("config dump: %s: %w", kind.Type, err)
		}
		section, err := packed.UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("config dump: %w", err)
		}
		if err := out.section(section); err != nil {
			return nil, fmt.Errorf("config dump: %w", err)
		}
	}
	return out, nil
}

// sections of a dump that have resources.
var sections = []string{
	typePrefix + "envoy.admin.v3.ClustersConfigDump", typePrefix + "envoy.admin.v3.ListenersConfigDump",
	typePrefix + "envoy.admin.v3.RoutesConfigDump", typePrefix + "envoy.admin.v3.EndpointsConfigDump",
}

// named is a resource with its own name.
type named interface {
	GetName() string
}

func (s Set) section(section any) error {
	switch m := section.(type) {
	case *admin.ClustersConfigDump:
		for _, c := range m.GetDynamicActiveClusters() {
			if err := s.put(c.GetCluster()); err != nil {
				return err
			}
		}
	case *admin.ListenersConfigDump:
		for _, l := range m.GetDynamicListeners() {
			if err := s.put(l.GetActiveState().GetListener()); err != nil {
				return err
			}
		}
	case *admin.RoutesConfigDump:
		for _, r := range m.GetDynamicRouteConfigs() {
			if err := s.put(r.GetRouteConfig()); err != nil {
				return err
			}
		}
	case *admin.EndpointsConfigDump:
		for _, e := range m.GetDynamicEndpointConfigs() {
			if err := s.put(e.GetEndpointConfig()); err != nil {
				return err
			}
		}
	}
	return nil
}

// put adds a resource; none is nothing.
func (s Set) put(packed *anypb.Any) error {
	if packed == nil {
		return nil
	}
	message, err := packed.UnmarshalNew()
	if err != nil {
		return err
	}
	var name string
	switch m := message.(type) {
	case named:
		name = m.GetName()
	case interface{ GetClusterName() string }:
		name = m.GetClusterName()
	}
	if s[packed.GetTypeUrl()] == nil {
		s[packed.GetTypeUrl()] = map[string]*anypb.Any{}
	}
	s[packed.GetTypeUrl()][name] = packed
	return nil
}
