// Package dump shows what a proxy is served: as an Envoy config dump, or in lines for
// people. It shows what an xds node would send, not what an Envoy has.
package dump

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// words are the types as people call them.
var words = map[string]string{
	"Cluster": "cluster", "ClusterLoadAssignment": "endpoint", "Listener": "listener", "RouteConfiguration": "route",
}

// Word is a type as people call it: cluster, endpoint, listener or route.
func Word(t xdsnode.Type) string {
	name := string(t)[strings.LastIndexByte(string(t), '.')+1:]
	if word, ok := words[name]; ok {
		return word
	}
	return name
}

// Types are the types that a word names; all for none. It is not ok for a word that
// names none.
func Types(word string) (types []xdsnode.Type, ok bool) {
	if word == "" {
		return xdsnode.Types(), true
	}
	for _, t := range xdsnode.Types() {
		if Word(t) == word {
			types = append(types, t)
		}
	}
	return types, len(types) > 0
}

// Words are the words for all types, in the order in which they are sent.
func Words() []string {
	var out []string
	for _, t := range xdsnode.Types() {
		out = append(out, Word(t))
	}
	return out
}

// JSON is an Envoy config dump (envoy.admin.v3.ConfigDump) of the types, each with a
// dump of its own, in which everything is dynamic. Equal resources give equal bytes.
func JSON(p *xdsnode.Proxy, types []xdsnode.Type) ([]byte, error) {
	whole := &adminv3.ConfigDump{}
	for _, t := range types {
		of := dumpOf(t)
		if of == nil {
			return nil, fmt.Errorf("%s has no config dump", t)
		}
		for _, r := range resources(p, t) {
			of.add(r)
		}
		packed, err := anypb.New(of.message())
		if err != nil {
			return nil, fmt.Errorf("dump of %s: %w", p.Name(), err)
		}
		whole.Configs = append(whole.Configs, packed)
	}
	compact, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("dump of %s: %w", p.Name(), err)
	}
	var out bytes.Buffer // The library spaces what it writes differently from build to build.
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("dump of %s: %w", p.Name(), err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// resources are all of a type, by name.
func resources(p *xdsnode.Proxy, t xdsnode.Type) []*xdsnode.Resource {
	names := p.Names(t)
	out := make([]*xdsnode.Resource, 0, len(names))
	for _, name := range names {
		if r := p.Resource(t, name); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// dump is that of one type.
type dump struct {
	add     func(*xdsnode.Resource)
	message func() proto.Message
}

// dumpOf begins the dump of a type; nil when Envoy has none for it.
func dumpOf(t xdsnode.Type) *dump {
	switch Word(t) {
	case "cluster":
		d := &adminv3.ClustersConfigDump{}
		return &dump{func(r *xdsnode.Resource) {
			d.DynamicActiveClusters = append(d.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: r.Version, Cluster: redacted(r.Body)})
		}, func() proto.Message { return d }}
	case "endpoint":
		d := &adminv3.EndpointsConfigDump{}
		return &dump{func(r *xdsnode.Resource) {
			d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{VersionInfo: r.Version, EndpointConfig: r.Body})
		}, func() proto.Message { return d }}
	case "listener":
		d := &adminv3.ListenersConfigDump{}
		return &dump{func(r *xdsnode.Resource) {
			d.DynamicListeners = append(d.DynamicListeners, &adminv3.ListenersConfigDump_DynamicListener{
				Name: r.Name, ActiveState: &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: r.Version, Listener: redacted(r.Body)},
			})
		}, func() proto.Message { return d }}
	case "route":
		d := &adminv3.RoutesConfigDump{}
		return &dump{func(r *xdsnode.Resource) {
			d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{VersionInfo: r.Version, RouteConfig: r.Body})
		}, func() proto.Message { return d }}
	}
	return nil
}

// Line is one resource, for people.
type Line struct {
	Type, Name, Version string
	// LeadsTo is where traffic goes from there: routes and clusters of a listener, clusters
	// of a route, addresses of a cluster or an endpoint.
	LeadsTo []string
}

// Lines are all resources of the types.
func Lines(p *xdsnode.Proxy, types []xdsnode.Type) ([]Line, error) {
	var out []Line
	for _, t := range types {
		for _, r := range resources(p, t) {
			message, err := r.Message()
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", Word(t), r.Name, err)
			}
			out = append(out, Line{Type: Word(t), Name: r.Name, Version: r.Version, LeadsTo: leadsTo(message)})
		}
	}
	return out, nil
}

// leadsTo is where a resource leads, without repetition, in its own order.
func leadsTo(message proto.Message) []string {
	var found []string
	walk(message.ProtoReflect(), func(place string) {
		if !slices.Contains(found, place) {
			found = append(found, place)
		}
	})
	return found
}
