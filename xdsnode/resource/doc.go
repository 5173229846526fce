// Package resource makes Envoy's resources out of routes: pure functions, of which
// equal input gives equal bytes.
//
// The promises:
//
//   - Names on the wire and names of resources are Consul's, so that dashboards, stats
//     tags and other people's Envoys go on working.
//   - A resource's version is a hash of its content. Every node gives the same version
//     to the same content, whenever and wherever it was made.
//   - What changes often stands alone: endpoints are in assignments, and a cluster or a
//     listener is the same whatever the endpoints are.
//   - No resource holds a key or a certificate: it names the secrets, which the Envoy
//     gets from the machine that it runs on.
//
// Callers own nothing of what they are given: a [Resource] is shared and never written
// to.
package resource
