package main

import (
	"context"
	"fmt"
)

// streamsPlan is how many proxies there are, and what they use.
type streamsPlan struct {
	// services of perService sidecars each; every sidecar has upstreams, of as many
	// services in the other datacenter.
	services, perService, upstreams int
	// perNode is how many sidecars are on a node.
	perNode int
	// stages are how many of them are connected, fewest first. What a server cannot do with
	// more, it may with fewer.
	stages []int
	// flips is how often the global mode changes for ours, in each stage.
	flips int
}

func (p streamsPlan) proxies() int { return p.services * p.perService }

// The gateways of the two datacenters: which of them stands in an assignment says by which
// mode it was made.
const (
	localGateway  = "10.101.0.1"
	remoteGateway = "10.102.0.1"
)

// gatewayOf is what a mode has a proxy send through.
func gatewayOf(mode string) string {
	return map[string]string{"local": localGateway, "remote": remoteGateway}[mode]
}

// fill registers all proxies with the first datacenter's catalog, none with the agent,
// and what they use with the second's.
func (p streamsPlan) fill(ctx context.Context, w *meshWorld) ([]proxyName, error) {
	var sidecars []object
	var names []proxyName
	for i := range p.proxies() {
		name := proxyName{fmt.Sprintf("node-%d", i/p.perNode), fmt.Sprintf("service-%d-%d-sidecar-proxy", i%p.services, i/p.services)}
		names, sidecars = append(names, name), append(sidecars, p.sidecar(i, name))
	}
	if err := w.putAll(ctx, 0, "/v1/catalog/register", append(sidecars, gatewayAt("dc1-gateways", localGateway))); err != nil {
		return nil, err
	}
	backends := []object{gatewayAt("dc2-gateways", remoteGateway)}
	for i := range p.services {
		name := fmt.Sprintf("backend-%d", i)
		backends = append(backends, object{
			"Node": "backends", "Address": "10.200.0.1",
			"Service": object{
				"Kind": "connect-proxy", "ID": name, "Service": name + "-sidecar-proxy", "Port": 20_000 + i,
				"Proxy": object{"DestinationServiceName": name},
			},
		})
	}
	return names, w.putAll(ctx, 1, "/v1/catalog/register", backends)
}

// sidecar is the registration of one.
func (p streamsPlan) sidecar(i int, name proxyName) object {
	service, host := i%p.services, i/p.perNode
	var upstreams []object
	for u := range p.upstreams {
		upstreams = append(upstreams, object{
			"DestinationName": fmt.Sprintf("backend-%d", (service+u)%p.services), "Datacenter": "dc2", "LocalBindPort": 9000 + u,
		})
	}
	return object{
		"Node": name.node, "Address": fmt.Sprintf("10.%d.%d.1", host/256, host%256),
		"Service": object{
			"Kind": "connect-proxy", "ID": name.id, "Service": fmt.Sprintf("service-%d-sidecar-proxy", service), "Port": 20_000 + i%p.perNode,
			"Proxy": object{"DestinationServiceName": fmt.Sprintf("service-%d", service), "LocalServicePort": 8080, "Upstreams": upstreams},
		},
	}
}

func gatewayAt(node, address string) object {
	return object{
		"Node": node, "Address": address,
		"Service": object{
			"Kind": "mesh-gateway", "ID": "mesh-gateway", "Service": "mesh-gateway", "Port": 8443,
			"TaggedAddresses": object{"lan": object{"Address": address, "Port": 8443}, "wan": object{"Address": address, "Port": 8443}},
		},
	}
}

// setMode writes the global mode.
func (w *meshWorld) setMode(ctx context.Context, mode string) error {
	w.mode = mode
	return w.put(ctx, 0, "/v1/config", object{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": object{"Mode": mode}})
}
