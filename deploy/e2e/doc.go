// Package e2e runs the built isthmus, each role as a process of its own, over
// two datacenters on loopback, and ends processes while requests run.
//
// It promises what a user sees from outside: no request fails, over new
// connections or kept ones and without a retry, while a watcher, a resolver,
// the bus or a gateway dies and comes back; changes go on; and a sidecar lets
// nobody in whom its certificate and the intentions do not let in. Beside real
// Consul datacenters, sidecars and gateways that Consul runs go on as ever, reach
// each other through gateways of ours, and find nothing of ours left. Where Consul
// denies by default, the tokens of the guide are enough, and one right that is
// taken from a part takes nothing from traffic. How long a
// change takes is measured and logged (go test -v), never asserted.
//
// There is nothing here but tests.
package e2e
