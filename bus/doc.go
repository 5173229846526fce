// Package bus is the log that everything in Isthmus is driven by: streams of
// keyed messages, whole transactions out of them, and the one loop that turns
// transactions into work.
//
// # What it promises
//
// Order. Within a stream, messages have contiguous sequences and are handed on
// in that order, each transaction whole or not at all. Between streams there
// is no order, and one stream's open transaction never holds back another's.
//
// State. What a reader was given is the state at a known sequence of a known
// incarnation: first one Reset transaction with the whole state, then each
// transaction after it. A reset consumer, a gap, a recreated stream or a
// mirror with holes is never passed over: the reader says so, keeps what it
// had, and starts over with a new Reset.
//
// Fencing. A [Writer] publishes only onto the tail that it has seen, in its own
// term, from a view that is not older than what is recorded. A lost answer is
// settled by reading the tail, so nothing is written twice.
//
// Basis. A routes transaction that ends a difference records what it was
// computed from. Transactions that change no value (keyframes, a new term)
// repeat the recorded basis while the state is what it gives, so the last
// message says it; between the transactions of one difference none does.
//
// Keeping. Only superseded messages leave a catalog or routes stream: the
// writer repeats a live key before its last message would leave (a keyframe).
//
// # Who does what
//
//   - [Log] is the low level, addressed by key: [JetStream] on NATS, and the
//     in-memory log of package memlog. Package bustest holds both to the same
//     conformance suite.
//   - [Stage] is pure: messages in, transactions out. [StateAt] is the state at
//     a past sequence.
//   - [Drive] follows streams, applies to a [Machine] and emits.
//   - [Writer] is the one that writes a catalog or routes stream; several
//     processes run one each, and one of them is active.
//   - [Reporter] publishes status, which is not truth.
//
// Messages that were handed out are shared and must not be written to.
//
// # What it does not do
//
// It knows nothing of services or routes, and it gives no order by time: event
// times are for people.
package bus
