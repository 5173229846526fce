// Command soak holds a real gateway process to what must not happen to it over
// time, and exits with 1 when it does:
//
//   - idle: thousands of idle connections are kept open while new ones come at a
//     steady rate. No connection may fail, every idle one must still answer at the
//     end, memory must stay flat, and every descriptor must come back;
//   - chaos: under load, tables are swapped, gateways are handed over, and an
//     endpoint dies and returns. No request may fail that has a live endpoint.
//
// The gateway takes its routes from a NATS server in this process, which writes
// them as a resolver does. For idle, the services are a process of their own (this
// program again), since a process has only so many descriptors.
//
// A request is eight bytes that come back. The first one of a connection stands in
// the random of its ClientHello, so that the endpoint knows which request it was
// asked, and nothing between the two can tell.
//
// What counts as a failure of chaos:
//
//   - a new connection that is not answered, whatever goes on;
//   - a kept connection that ends other than by its client. One that a draining
//     gateway has goes on there, also in the middle of its hello, of a request or of
//     an answer, and when its name is gone from the table; clients leave in order
//     every few requests, and so the gateway ends by itself, long before its drain
//     would cut anything;
//   - not a request on an endpoint that dies. It is told by that endpoint's own
//     record of the connections that it had when it died, and of nothing else. So
//     that the record is whole, a dying endpoint first takes no more handshakes,
//     accepts all that are done, and reads their hellos.
//
// Successors differ from their predecessors: with several engines (-engine
// loop,relay) each is followed by the next, and half of all gateways have but one
// processor.
//
// A swap has happened when the gateway reports the sequence of the routes stream
// and, where no hand-over is on its way, when the name that it added is answered
// and the name that it removed is refused.
package main
