// Package enginetest holds every engine of the gateway to one behaviour.
//
// [Run] is for whatever passes connections on by their server name, our engines or
// another product: seeded clients, some well-behaved and some not, go through it to
// real TLS servers and to endpoints that look at the bytes, and what both ends see
// is compared with what they should: every byte, and the way of closing. Such an
// engine is described by a [Rig]. Where another product does otherwise on purpose or
// by nature, the Rig says so in Differs, case by case; a case that is listed there
// and does not differ fails too.
//
// [RunEngine] is for our own engines, and asks besides for all that they state and
// refuse. Endpoints are real sockets of loopback: some refuse, some never answer.
// Nothing is asked that engines may do differently: when a client is noticed that has
// said nothing yet, or in which order connections end that end together.
package enginetest
