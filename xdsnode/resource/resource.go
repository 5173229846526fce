package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
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
)

// Types are all types in the order in which they are to be sent, so that nothing is
// named before it is there.
func Types() []Type { return []Type{Cluster, Assignment, Listener} }

// Resource is one named resource.
type Resource struct {
	Type Type
	Name string
	// Version is the hash of the body, in hex.
	Version string
	Body    *anypb.Any
}

// Message reads the body, for people and tests.
func (r *Resource) Message() (proto.Message, error) { return r.Body.UnmarshalNew() }

// pack makes a resource of a message of one of the types.
func pack(message proto.Message) *Resource {
	r := &Resource{}
	switch m := message.(type) {
	case *clusterv3.Cluster:
		r.Type, r.Name = Cluster, m.GetName()
	case *endpointv3.ClusterLoadAssignment:
		r.Type, r.Name = Assignment, m.GetClusterName()
	case *listenerv3.Listener:
		r.Type, r.Name = Listener, m.GetName()
	default:
		panic(fmt.Sprintf("resource: %T is no resource", message))
	}
	r.Body = packed(message)
	sum := sha256.Sum256(r.Body.GetValue())
	r.Version = hex.EncodeToString(sum[:12])
	return r
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
