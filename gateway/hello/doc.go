// Package hello reads the ClientHello of TLS, as its bytes arrive, for the
// server name in it.
//
// The promises:
//
//   - Any ClientHello that is legal is understood, however it is cut into
//     segments and records, up to the limits, which by default admit the
//     longest that TLS can express.
//   - The verdict is the same for the same bytes, however they are cut into
//     calls of [Parser.Feed].
//   - A verdict other than [NeedMore] is final. A name is given only when the
//     whole hello has been seen and holds together; what is malformed,
//     endless or not TLS is found at the end of the first field that shows it.
//   - Nothing is kept of the hello but the name: a Parser has a fixed size and
//     allocates nothing.
//
// What the server behind the gateway will check for itself is left to it:
// versions, cipher suites, the contents of other extensions.
//
// The rules are those of RFC 8446 sections 4.1.2, 5.1 and 6, and of RFC 6066
// section 3. The package is pure and uses nothing of crypto/tls.
package hello
