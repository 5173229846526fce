package resource_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// parts are what listeners are made of: the routes of upstreams, and intentions, each by
// the name of its file.
type parts struct {
	names    []string
	routes   map[string]*isthmusv1.Route
	inbounds map[string]*isthmusv1.Inbound
}

// read takes a route, or an inbound; it reports whether the file is one.
func (p *parts) read(t *testing.T, f txtar.File) bool {
	t.Helper()
	kind, name, _ := strings.Cut(f.Name, "/")
	into := func(m proto.Message) {
		if err := prototext.Unmarshal(f.Data, m); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	switch kind {
	case "route":
		p.routes[name] = &isthmusv1.Route{}
		into(p.routes[name])
	case "inbound":
		p.inbounds[name] = &isthmusv1.Inbound{}
		into(p.inbounds[name])
	default:
		return false
	}
	p.names = append(p.names, name)
	return true
}

// files are what they come to. The cluster of a resolver is named by its target here.
func (p *parts) files(t *testing.T) []txtar.File {
	t.Helper()
	var out []txtar.File
	for _, name := range p.names {
		if route := p.routes[name]; route != nil {
			out = append(out, txtar.File{Name: "route/" + name + ".json", Data: text(t, resource.RoutesOf(name, route, targetOf(route)))})
			continue
		}
		in := p.inbounds[name]
		var filter proto.Message = resource.NetworkIntentions(in)
		kind := "network-filter/"
		if in.GetProtocol() != "tcp" {
			filter, kind = resource.HTTPIntentions(in), "http-filter/"
		}
		out = append(out, txtar.File{Name: kind + name + ".json", Data: textOf(t, filter)})
	}
	return out
}

func targetOf(route *isthmusv1.Route) func(node string) string {
	return func(node string) string {
		for _, n := range route.GetChain().GetNodes() {
			if n.GetName() == node {
				return n.GetResolver().GetTarget()
			}
		}
		return ""
	}
}

// textOf is a message as JSON that does not depend on the library's build.
func textOf(t *testing.T, message proto.Message) []byte {
	t.Helper()
	compact, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&out)
	return out.Bytes()
}

const (
	typeHTTP   = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	typeRouter = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
	typeTCP    = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
)

// listening is a listener that is made of one such part.
func listening(name, kind string, data json.RawMessage) json.RawMessage {
	router := map[string]any{"name": "router", "typed_config": map[string]any{"@type": typeRouter}}
	http := map[string]any{
		"@type": typeHTTP, "stat_prefix": "test", "http_filters": []any{router},
		"route_config": map[string]any{"name": "test", "virtual_hosts": []any{}},
	}
	filters := []any{map[string]any{"name": "http", "typed_config": http}}
	switch kind {
	case "route":
		var routes map[string]any
		if json.Unmarshal(data, &routes) == nil {
			routes["validate_clusters"] = false
		}
		http["route_config"] = routes
	case "http-filter":
		http["http_filters"] = []any{data, router}
	case "network-filter":
		filters = []any{data, map[string]any{"name": "tcp", "typed_config": map[string]any{"@type": typeTCP, "stat_prefix": "test", "cluster": "xds"}}}
	}
	out, err := json.Marshal(map[string]any{
		"name":          kind + "/" + name,
		"address":       map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0}},
		"filter_chains": []any{map[string]any{"filters": filters}},
	})
	if err != nil {
		panic(err)
	}
	return out
}
