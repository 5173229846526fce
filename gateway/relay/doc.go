// Package relay is the portable engine of the gateway: it accepts connections,
// reads a ClientHello, looks its name up, connects to an endpoint and moves
// bytes both ways, with goroutine pairs on net.Conn. It never decrypts.
//
// The promises:
//
//   - Bytes arrive as they were sent, from the first byte of the hello on, and
//     so do a half-close (at whatever time it comes) and a reset.
//   - A client that has not yet been joined to an endpoint holds little more
//     than the bytes that it sent: no buffer waits with it. Hellos beyond
//     [Config.HelloFree] draw on one shared allowance.
//   - Every connection that was accepted ends in exactly one
//     [table.Record], with the reason.
//   - What is refused is refused with the TLS alert that says why, in a way
//     that lets the client read it; what is not TLS is closed.
//
// [Join] moves bytes between two connections of any kind, and is also what the
// sidecar uses.
package relay
