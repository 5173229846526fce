// Package history answers from the log: what happened, how a thing was routed
// at any moment and why, and whether the routes that were written are those that
// the rules give.
//
// The promises:
//
//   - It only reads. Nothing here writes to a stream.
//   - There is no second implementation of any rule: answers come from the
//     resolver's own machine, driven to a basis.
//   - It says what it does not know. What has left the log is "not retained" and
//     is never guessed; an answer names the basis that it holds for, and how that
//     basis was found.
//   - Order is by sequence. Times are for people: they decide only which of two
//     datacenters' events is shown first.
//
// [Log] tells the events of streams as sentences, [At] gives the resolver's
// machine at a moment, [NewAnswer] and [WriteAnswer] show what it explains, and
// [Replay] holds the recorded routes against the rules.
package history
