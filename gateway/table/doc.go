// Package table is what a gateway looks up: an immutable [Table] of names and
// wildcards, each leading to a [Route] with a [Set] of endpoints.
//
// The promises:
//
//   - A Table is never written to. [Table.With] makes the next one and shares
//     all that did not change, so swapping tables is one pointer store and its
//     cost follows the change.
//   - A Set is shared by every table that refers to it. [Set.Replace] swaps its
//     members whole; a reader sees the old ones or the new ones.
//   - Endpoints keep their counters and their ejection while their address
//     stays in the set, routes keep their counters while their name stays.
//   - Choosing is deterministic: the random number and the time are given.
//   - A lookup and a choice allocate nothing.
//
// What the engines state of each connection ([Record]) is here too, so that
// engines need nothing of one another. The package is pure: no clock, no
// randomness, no goroutine, no I/O.
package table
