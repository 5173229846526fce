package xdsnode

import "github.com/isthmus-mesh/isthmus/xdsnode/resource"

// What a machine serves, under the names of the package that makes it: whoever serves
// it needs to know no more of that.
type (
	// Resource is one named resource.
	Resource = resource.Resource
	// Type is the URL of a type of resources.
	Type = resource.Type
)

// The types.
const (
	Cluster    = resource.Cluster
	Assignment = resource.Assignment
	Listener   = resource.Listener
	Route      = resource.Route
)

// Types are all types in the order in which they are to be sent.
func Types() []Type { return resource.Types() }
