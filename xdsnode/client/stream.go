package client

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Types of resources that are asked for.
const (
	typeCluster    = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	typeAssignment = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	typeListener   = "type.googleapis.com/envoy.config.listener.v3.Listener"
	typeRoute      = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// deltaStream is a stream as the client uses it.
type deltaStream interface {
	Send(*discovery.DeltaDiscoveryRequest) error
	Recv() (*discovery.DeltaDiscoveryResponse, error)
}

// conversation is one stream: what was said to the control plane.
type conversation struct {
	stream deltaStream
	// node introduces the proxy, in the first request only.
	node *core.Node
	// assignments and routes that are subscribed to.
	assignments, routes map[string]bool
}

// node introduces the proxy as `consul connect envoy` writes it.
func (c *Client) node() *core.Node {
	fields := map[string]*structpb.Value{
		"namespace": structpb.NewStringValue(cmp.Or(c.config.Namespace, "default")),
		"partition": structpb.NewStringValue(cmp.Or(c.config.Partition, "default")),
	}
	if c.config.Node != "" {
		fields["node_name"] = structpb.NewStringValue(c.config.Node)
	}
	return &core.Node{
		Id: c.config.ID, Cluster: c.config.ID, UserAgentName: "isthmus",
		Metadata: &structpb.Struct{Fields: fields},
	}
}

// send says who asks, the first time.
func (v *conversation) send(request *discovery.DeltaDiscoveryRequest) error {
	request.Node, v.node = v.node, nil
	err := v.stream.Send(request)
	if errors.Is(err, io.EOF) {
		return nil // Why it has ended is what Recv says.
	}
	return err
}

// follow subscribes, and takes in one answer after the other, until the stream
// ends; it returns why. A first request
// that names nothing subscribes to everything: "*" says the same in the protocol
// since, but Consul 1.22 takes that for a name.
func (c *Client) follow(v *conversation) error {
	for _, url := range []string{typeCluster, typeListener} {
		if err := v.send(&discovery.DeltaDiscoveryRequest{TypeUrl: url}); err != nil {
			return err
		}
	}
	for {
		response, err := v.stream.Recv()
		if err != nil {
			return err
		}
		reply := &discovery.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}
		next, err := apply(c.Snapshot(), response)
		if err != nil {
			c.log.Warn("an answer was refused", "type_url", response.GetTypeUrl(), "nonce", response.GetNonce(), "err", err)
			reply.ErrorDetail = status.New(codes.InvalidArgument, err.Error()).Proto()
			next = refuse(c.Snapshot(), Refusal{TypeURL: response.GetTypeUrl(), Nonce: response.GetNonce(), Why: err.Error()})
		}
		if err := v.send(reply); err != nil {
			return err
		}
		if err := v.subscribe(next); err != nil {
			return err
		}
		c.change(func() { c.snapshot = next })
	}
}

// subscribe asks for the endpoints of the clusters that there are and the routes of
// the listeners, and no longer for those of what is gone.
func (v *conversation) subscribe(s *Snapshot) error {
	var err error
	if v.assignments, err = v.want(typeAssignment, v.assignments, s.assignments()); err != nil {
		return err
	}
	v.routes, err = v.want(typeRoute, v.routes, s.routes())
	return err
}

// want says what is wanted of a type besides or no longer, and returns what is.
func (v *conversation) want(url string, before, wanted map[string]bool) (map[string]bool, error) {
	request := &discovery.DeltaDiscoveryRequest{TypeUrl: url}
	for name := range sorted(wanted) {
		if !before[name] {
			request.ResourceNamesSubscribe = append(request.ResourceNamesSubscribe, name)
		}
	}
	for name := range sorted(before) {
		if !wanted[name] {
			request.ResourceNamesUnsubscribe = append(request.ResourceNamesUnsubscribe, name)
		}
	}
	if len(request.GetResourceNamesSubscribe())+len(request.GetResourceNamesUnsubscribe()) == 0 {
		return wanted, nil
	}
	return wanted, v.send(request)
}

// apply is a snapshot with an answer taken in; the one that is given stays as it
// is. Its error says what is wrong with the answer.
func apply(s *Snapshot, response *discovery.DeltaDiscoveryResponse) (*Snapshot, error) {
	next := *s
	var err error
	switch response.GetTypeUrl() {
	case typeCluster:
		next.answeredClusters = true
		next.Clusters, err = merge(s.Clusters, response, readCluster)
		// Endpoints of a cluster that is gone are no longer kept up to date.
		next.Endpoints = wantedOf(s.Endpoints, next.assignments())
	case typeListener:
		next.answeredListeners = true
		next.Listeners, err = merge(s.Listeners, response, readListener)
		next.Routes = wantedOf(s.Routes, next.routes())
	case typeAssignment:
		next.Endpoints, err = merge(s.Endpoints, response, readAssignment)
	case typeRoute:
		next.Routes, err = merge(s.Routes, response, readRoutes)
	default:
		err = fmt.Errorf("resources of type %s were not asked for", response.GetTypeUrl())
	}
	if err != nil {
		return nil, err
	}
	next.Bodies = maps.Clone(s.Bodies)
	if next.Bodies == nil {
		next.Bodies = Bodies{}
	}
	body := func(r *discovery.Resource) (*anypb.Any, error) { return r.GetResource(), nil }
	if next.Bodies[response.GetTypeUrl()], err = merge(s.Bodies[response.GetTypeUrl()], response, body); err != nil {
		return nil, err
	}
	next.Bodies[typeAssignment] = wantedOf(next.Bodies[typeAssignment], next.assignments())
	next.Bodies[typeRoute] = wantedOf(next.Bodies[typeRoute], next.routes())
	return &next, nil
}

// refuse is a snapshot with a refusal added.
func refuse(s *Snapshot, r Refusal) *Snapshot {
	next := *s
	next.Refused = append(slices.Clone(s.Refused), r)
	return &next
}

// merge is what there is of a type after an answer. All that is wrong with the
// answer is in the error.
func merge[V any](
	old map[string]V, response *discovery.DeltaDiscoveryResponse, read func(*discovery.Resource) (V, error),
) (map[string]V, error) {
	out := maps.Clone(old)
	if out == nil {
		out = make(map[string]V)
	}
	for _, name := range response.GetRemovedResources() {
		delete(out, name)
	}
	var wrong []error
	for _, resource := range response.GetResources() {
		value, err := read(resource)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", resource.GetName(), err))
			continue
		}
		out[resource.GetName()] = value
	}
	return out, errors.Join(wrong...)
}

// wantedOf leaves out what is not wanted.
func wantedOf[V any](all map[string]V, wanted map[string]bool) map[string]V {
	out := make(map[string]V)
	for name, value := range all {
		if wanted[name] {
			out[name] = value
		}
	}
	return out
}

// sorted goes through a map by its keys.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
