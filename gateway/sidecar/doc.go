// Package sidecar is the Go sidecar: it carries the connections of one service
// to its upstreams and from its callers, over mutual TLS, at layer 4.
//
// It follows ROUTES_<dc> and needs nothing else but a source of identities
// (package identity). Outbound, each upstream has a local listener; a
// connection goes to the targets of its route in order, to the first endpoint
// that answers as who it should be. Inbound, a caller must show a certificate
// and be let in by the service's intentions.
//
// The promises:
//
//   - Nothing is served before it is whole: the routes are caught up with the
//     log, or come from the saved file, and there is a leaf.
//   - A change of routes, intentions, listeners, leaf or roots holds for the next
//     connection. It drops none: as in Consul, a connection that was let in
//     stays when the intentions change, and a listener that goes away leaves its
//     connections alone.
//   - What it cannot do is denied, never guessed: a router, a splitter, intentions
//     by request, a name outside its trust domain. The problem is stated, and the
//     connection closed with the reason in the access log.
//   - Bytes, half-closes and resets are passed on both ways. The end of a TLS
//     stream is its close_notify: one that ends without it was cut off, and is
//     passed on as a reset.
//   - Every connection ends in exactly one [Record].
//   - An inbound connection that is denied is closed in order right after the
//     handshake; one whose application cannot be reached is reset. So [Probe]
//     tells them apart.
//
// Of failures to connect it learns as gateways do (package table): an endpoint
// that fails is left out for a while, unless it is the last.
package sidecar
