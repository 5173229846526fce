// Package xdsnode turns ROUTES_<dc> into the resources that each Envoy of the
// datacenter is served.
//
// The promises:
//
//   - [Machine] is pure: it takes transactions, and says what has changed since it was
//     last asked; no clock, goroutine or I/O. Equal routes give equal resources with
//     equal versions on every node.
//   - Cost follows the change: an endpoint costs the assignments that hold it, a name the
//     cluster of it, whatever else there is. Mesh gateways with equal settings share all
//     but their listeners.
//   - Every cluster that waits for an assignment has one, and it may be empty.
//
// A proxy that cannot be served yet has no resources, and [Machine.Find] says why.
package xdsnode
