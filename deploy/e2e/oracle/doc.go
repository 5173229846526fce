// Package oracle holds our routes against what Consul itself computes from the
// same registrations: two federated datacenters of real Consul agents, written to
// by Consul's API alone, are followed by our watchers and resolvers, and Consul's
// own xDS is read by a delta client (xdsnode/client).
//
// It promises that for each proxy and upstream here both say the same: mode and
// path, server name, identities, the endpoints with address, port, health and
// weight, the order of failover, the connect timeout; and for a mesh gateway its
// names and those of other datacenters. What differs on purpose is listed in
// differences_test.go by its name in deploy/docs/differences.md; a case that
// differs otherwise fails, and so does a listed difference that no case meets.
//
// Of Envoys it promises besides (conformance_test.go) that for each sidecar and mesh
// gateway there our resources are Consul's own, as they are sent and as two real Envoys
// run them, but for the rows of deploy/docs/differences.md; and that a sidecar moves
// from Consul's xDS to ours and back without a failed request.
//
// Nothing here waits for time to pass: both sides are compared whenever one of
// them changes, once our basis includes all that was written, and a deadline is
// only met by a failure.
//
// There is nothing here but tests.
package oracle
