// Package check holds datacenters against what Isthmus needs of them: the
// prerequisites of mesh gateways in Consul, and the health of our own parts.
//
// # What it promises
//
// Every check reports, its pass too: a check that says nothing was not made, and
// one that could not be made says so, as a warning. Each [Finding] names its code,
// which stays; the datacenter and the thing that it is about; the machine that
// judged, since a network path is good or bad only from where it is used; what was
// found, and what to do. [Codes] lists all codes.
//
// Judging is pure: [Judge] turns [Facts] into findings, without a clock or a
// connection, in one order. Gathering the facts is [Gather]'s, at the edge. It
// writes nothing, changes nothing, and opens no connection beyond a TLS handshake
// that it breaks off when the other side has asked for a certificate.
//
// A finding holds no secret: no token and no key.
//
// # What it does not do
//
// It does not know who wins among modes: findings of the resolver are handed in as
// [Facts].Extra and sorted among the others. It does not see from another machine:
// run it where the path is used.
package check
