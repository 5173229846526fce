package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// stub is an Envoy without its data plane: a stream of the delta protocol that asks as an
// Envoy does, takes everything, and forgets all but the versions.
type stub struct {
	crowd *crowd
	// node and id are the proxy's.
	node, id string

	// Only the stream's goroutine touches what follows. It stays from one stream to the
	// next, as in an Envoy.
	//
	// has are the versions by type and name.
	has map[xdsnode.Type]map[string]string
	// awaits are the assignments that its clusters wait for; true: it has come.
	awaits map[string]bool
	// asked are the types that the present stream was asked for.
	asked map[xdsnode.Type]bool
	// whole: the present stream has been sent all there is, which first waits for.
	whole bool
	first *tally
	// marked are the assignments that hold what is looked for, and by is for whom they do.
	marked map[string]bool
	by     *sought
}

type deltaClient = grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]

func newStub(c *crowd, node, id string) *stub {
	return &stub{
		crowd: c, node: node, id: id, awaits: map[string]bool{},
		has: map[xdsnode.Type]map[string]string{xdsnode.Cluster: {}, xdsnode.Assignment: {}, xdsnode.Listener: {}, xdsnode.Route: {}},
	}
}

// run is one stream, to its end.
func (e *stub) run(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	e.asked = map[xdsnode.Type]bool{}
	e.by, e.marked, e.whole = nil, nil, false
	if err := e.greet(stream); err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := e.take(stream, response); err != nil {
			return err
		}
	}
}

// greet asks for the clusters, and says what it has; one that was here before asks for
// all types at once.
func (e *stub) greet(stream deltaClient) error {
	for _, t := range []xdsnode.Type{xdsnode.Cluster, xdsnode.Assignment, xdsnode.Listener} {
		if t != xdsnode.Cluster && len(e.has[t]) == 0 {
			continue
		}
		var names []string
		if t == xdsnode.Assignment {
			names = slices.Sorted(maps.Keys(e.awaits))
		}
		if err := e.ask(stream, t, names, nil); err != nil {
			return err
		}
	}
	return nil
}

// ask subscribes; the first time to a type with all that it has of it. Without names that
// is to everything: Consul 1.22 takes "*" for a name.
func (e *stub) ask(stream deltaClient, t xdsnode.Type, names, without []string) error {
	request := &discovery.DeltaDiscoveryRequest{TypeUrl: string(t), ResourceNamesSubscribe: names, ResourceNamesUnsubscribe: without}
	if len(e.asked) == 0 {
		request.Node = &core.Node{Id: e.id, Cluster: e.id, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"node_name": structpb.NewStringValue(e.node), "namespace": structpb.NewStringValue("default"), "partition": structpb.NewStringValue("default"),
		}}}
	}
	if !e.asked[t] {
		request.InitialResourceVersions = maps.Clone(e.has[t])
	}
	e.asked[t] = true
	return sent(stream, request)
}

// take takes a response in, says so, and asks for what that leads to.
func (e *stub) take(stream deltaClient, r *discovery.DeltaDiscoveryResponse) error {
	t := xdsnode.Type(r.GetTypeUrl())
	for _, name := range r.GetRemovedResources() {
		delete(e.has[t], name)
	}
	for _, resource := range r.GetResources() {
		e.has[t][resource.GetName()] = resource.GetVersion()
	}
	e.crowd.count(t, r)
	if err := sent(stream, &discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
		return err
	}
	now := time.Now()
	switch t {
	case xdsnode.Cluster:
		if err := e.follow(stream, r); err != nil {
			return err
		}
	case xdsnode.Assignment:
		for _, resource := range r.GetResources() {
			if _, wanted := e.awaits[resource.GetName()]; wanted {
				e.awaits[resource.GetName()] = true
			}
		}
		e.look(r, now)
	}
	if !e.asked[xdsnode.Listener] && e.warm() {
		return e.ask(stream, xdsnode.Listener, nil, nil)
	}
	if t == xdsnode.Listener && !e.whole {
		e.whole = true
		e.first.came(now)
	}
	return nil
}

// warm reports whether all clusters have their endpoints.
func (e *stub) warm() bool {
	for _, came := range e.awaits {
		if !came {
			return false
		}
	}
	return true
}

// follow asks for the assignments of new clusters, and no longer for those of others.
func (e *stub) follow(stream deltaClient, r *discovery.DeltaDiscoveryResponse) error {
	var more, fewer []string
	for _, name := range r.GetRemovedResources() {
		if _, asked := e.awaits[name]; asked {
			fewer = append(fewer, name)
			delete(e.awaits, name)
		}
	}
	for _, resource := range r.GetResources() {
		name, err := e.crowd.assignmentOf(resource)
		if err != nil {
			return err
		}
		if _, asked := e.awaits[name]; name != "" && !asked {
			e.awaits[name] = false
			more = append(more, name)
		}
	}
	if len(more)+len(fewer) == 0 {
		return nil
	}
	return e.ask(stream, xdsnode.Assignment, more, fewer)
}

// assignmentOf is what a cluster waits for; empty for one that does not. Many have the
// same cluster, which is read once.
func (c *crowd) assignmentOf(r *discovery.Resource) (string, error) {
	key := [2]string{r.GetName(), r.GetVersion()}
	if known, ok := c.clusters.Load(key); ok {
		return known.(string), nil
	}
	var cluster clusterv3.Cluster
	if err := r.GetResource().UnmarshalTo(&cluster); err != nil {
		return "", err
	}
	name := ""
	if cluster.GetType() == clusterv3.Cluster_EDS {
		if name = cluster.GetEdsClusterConfig().GetServiceName(); name == "" {
			name = cluster.GetName()
		}
	}
	c.clusters.Store(key, name)
	return name, nil
}

// sent sends; why a stream has ended is what Recv says.
func sent(stream deltaClient, request *discovery.DeltaDiscoveryRequest) error {
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
