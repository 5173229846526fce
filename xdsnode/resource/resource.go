package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type is the URL of a type of resources.
type Type string

// The types, as Envoy names them.
const (
	Cluster    Type = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	Assignment Type = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	Listener   Type = "type.googleapis.com/envoy.config.listener.v3.Listener"
	Route      Type = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// Types are all types in the order in which they are to be sent, so that nothing is
// named before it is there.
func Types() []Type { return []Type{Cluster, Assignment, Listener, Route} }

// Resource is one named resource.
type Resource struct {
	Type Type
	Name string
	// Version is the hash of the body, in hex.
	Version string
	Body    *anypb.Any
	// Refs are the names of what an Envoy waits for when it is sent this, though it has
	// it: of a cluster its assignment, of a listener its route configurations. They are
	// of the type [Type.Awaited].
	Refs []string
	// Binds are where a listener listens, in one spelling: of two that have one of these in
	// common an Envoy refuses the second.
	Binds []string
}

// Awaited is the type of what resources of this type wait for; empty when they wait for
// nothing.
func (t Type) Awaited() Type {
	switch t {
	case Cluster:
		return Assignment
	case Listener:
		return Route
	}
	return ""
}

// Message reads the body, for people and tests.
func (r *Resource) Message() (proto.Message, error) { return r.Body.UnmarshalNew() }

// pack makes a resource of a message of one of the types.
func pack(message proto.Message) *Resource {
	r := &Resource{}
	switch m := message.(type) {
	case *clusterv3.Cluster:
		r.Type, r.Name, r.Refs = Cluster, m.GetName(), assignmentsOf(m)
	case *endpointv3.ClusterLoadAssignment:
		r.Type, r.Name = Assignment, m.GetClusterName()
	case *listenerv3.Listener:
		r.Type, r.Name, r.Refs, r.Binds = Listener, m.GetName(), routesOf(m), bindsOf(m)
	case *routev3.RouteConfiguration:
		r.Type, r.Name = Route, m.GetName()
	default:
		panic(fmt.Sprintf("resource: %T is no resource", message))
	}
	r.Body = packed(message)
	r.Version = version(r.Body.GetValue())
	return r
}

// version is a hash of content.
func version(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// packed is a message as one that says its own type, with equal bytes for equal
// messages.
func packed(message proto.Message) *anypb.Any {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		// Only text that is not UTF-8 cannot be marshalled; the model refuses that.
		panic(fmt.Sprintf("resource: %T: %v", message, err))
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(message.ProtoReflect().Descriptor().FullName()), Value: value}
}
