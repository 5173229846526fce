// Package tally is what a gateway counted at one moment, as its admin server
// says it and `isthmus gateways top` reads it.
//
// The promises:
//
//   - Counters count from the start of one process, which [Gateway.Started]
//     names: another one begins at zero.
//   - No name is one that a client chooses. Routes are the catalog's, reasons
//     those of package table.
//   - Fields are added, never renamed: a reader may be older or newer than the
//     gateway.
package tally
