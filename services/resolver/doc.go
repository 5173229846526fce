// Package resolver turns the catalogs of all datacenters into the routes of
// one of them. It is a machine: [Machine.Apply] takes transactions of
// CATALOG_* streams, [Machine.Ready] says what changed in ROUTES_<datacenter>.
//
// What it promises:
//
//   - Routes are a pure function of the applied state. There is no clock, no
//     randomness, no I/O and no order of maps in them: equal state gives equal
//     bytes, by whatever transactions it was reached, in whatever order the
//     streams arrived.
//   - Nothing comes out before the own datacenter's catalog is whole enough to
//     name anything: mesh facts and a trust domain. If these are lost later, the
//     last routes stay.
//   - Cost follows the change. Every output remembers which facts it was made
//     from, and is made anew only when one of them changed.
//   - A decision cites the key of the entry that made it, never a sequence, so an
//     edit of an entry that changes no mode republishes nothing; [Machine.Explain]
//     adds the sequence, the file and the line from what was applied.
//
// A machine belongs to one goroutine. It keeps the messages that it was given
// and never writes to them; the messages that it hands out are shared in the
// same way and must not be written to.
package resolver
