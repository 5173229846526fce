// Package identity is where a service's leaf and the roots come from, and the
// TLS that follows from them.
//
// A [Source] follows the identity of one service in one datacenter: it hands
// over the present [Identity], then each next one, and says what keeps it from
// having one. There are two here: [DevCA], the built-in certificate authority
// for development, and [Directory], PEM files that somebody else renews; a third
// one, package consul's, makes its identities of PEM too ([New]). [Live] keeps the
// newest one and makes TLS configurations that always use it.
//
// The promises:
//
//   - The last good identity stays: trouble is told, and changes nothing.
//   - A leaf is renewed at two thirds of its life, and a root is replaced with
//     overlap, so that whoever follows never holds a leaf that its peers, at
//     most one step behind, would refuse.
//   - Each handshake uses the leaf and the roots of its moment. Sessions are
//     never resumed, so a removed root or a changed rule holds at once for new
//     connections. Open connections are not touched.
//   - A peer is known by its SPIFFE ID alone: exactly one URI in its leaf, which
//     equals one of those expected, byte for byte. Host names are not looked at.
//   - A private key is never logged or printed: an Identity shows its name, its
//     serial number and its time. It leaves by [Identity.KeyPEM] only, which is
//     for the proxy on the same machine.
//
// Leaves are Consul's in form: ECDSA P-256, a SPIFFE URI as the only subject
// alternative name, no subject, for clients and servers alike.
package identity
