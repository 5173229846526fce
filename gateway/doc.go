// Package gateway is the mesh gateway as a service: it keeps a table by the
// routes stream of its datacenter, and has an engine relay connections by it
// without ever decrypting them.
//
// The promises:
//
//   - Nothing is accepted before there is a whole table: the routes stream
//     caught up, or the last good table of the state directory. A table that
//     comes from there is stated, with its age, until the bus has been caught up
//     with ([Gateway.Status], [Gateway.Waiting], metrics).
//   - Tables are swapped while connections live on. A change of endpoints swaps
//     one route's set, and costs what that set costs.
//   - On the end of its context, a gateway closes its listeners, lets
//     connections end, and ends those that are left when the drain is over.
//   - A gateway that is started beside a running one with the same hand-over
//     socket takes over its listening descriptors, and only then does the old one
//     drain: no connection is lost, not even one in a queue. Run of the old one
//     returns [ErrHandedOver].
//   - With a registration to run by, it listens where that says and follows its
//     changes: new addresses are opened, then old ones closed, and connections
//     live on. Without one it goes on by the last. What it does not honour of it
//     is stated.
//   - A gateway that registers itself is in the catalog only while it accepts
//     connections: not before there is a table, nor once the drain begins.
//   - Each connection leaves one line in the access log, or is counted as
//     dropped: a slow log never slows a connection down.
//
// Who does what: [Feed] is the machine that tables come out of; an [Engine]
// moves the bytes; [Gateway] starts, saves, resolves host names, reports, drains
// and hands over.
package gateway
