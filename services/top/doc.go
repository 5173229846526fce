// Package top turns what gateways counted at two moments into a table of rates:
// readings in, a [Frame] out, text out of that.
//
// The promises:
//
//   - A rate is the difference of two counters by the time between them on the
//     gateway's own clock, not by the interval that was asked for.
//   - No rate is below zero. A gateway that was started anew, or whose numbers
//     come from elsewhere than before, has none until it was read twice; a route
//     whose counters went back counts from zero.
//   - What is not known is said to be unknown, and is never zero: a report has
//     fewer numbers than an admin server.
//   - Equal readings give equal frames, and a frame equal text: rows that are
//     equal by the order asked for stand by name.
//
// The package is pure: no clock, no I/O, no terminal. Whoever uses it reads the
// gateways and draws.
package top
