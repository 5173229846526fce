// Package loop is the gateway's engine for Linux: one event loop for each
// processor, over non-blocking system calls. It does what package relay does, for
// less.
//
// The promises:
//
//   - Those of package relay: bytes arrive as they were sent, and so do a
//     half-close and a reset; each connection ends in exactly one
//     [table.Record]; what is refused can be read. One suite
//     (gateway/enginetest) holds both engines to them.
//   - A connection belongs to one loop, and nothing of it is touched by another;
//     it is given away at most twice, whole, when it begins and when it turns
//     out to be big. What loops share are the table, its counters, and the few
//     numbers of the limits.
//   - A loop never blocks but in its wait for events, and never waits while
//     there is something to do. Each turn is given the time; every deadline is
//     found by that. No goroutine and no timer belongs to a connection.
//   - An idle connection holds two descriptors and less than a kilobyte.
//   - All loops accept from one socket, so that a hand-over passes on one
//     descriptor for each address, whatever the number of loops.
//
// The kernel is behind an interface, so that a simulated one can cut counts
// short, fail and be late, from a seed, without a thread or a clock.
//
// Files in the order of a connection's life: accept, opening (the hello, the
// endpoint), ahead and refill (connections to endpoints that are opened before
// anybody asks), flow and pipe (the bytes), ending. Around them: loop (a turn),
// slots (where connections are), deadlines, limits, balance (which loop has a
// connection), mail (what other goroutines ask of a loop), engine (what the
// gateway sees), kernel and system (what all of it is done with).
package loop
