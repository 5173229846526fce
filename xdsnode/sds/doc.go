// Package sds gives the Envoy beside it the secrets of one service, by Envoy's secret
// discovery service on a unix socket: [isthmusv1.SecretLeaf], a chain and its key, and
// [isthmusv1.SecretRoots], what peers are checked against.
//
// The promises:
//
//   - Nothing is served before there is an identity; who asks meanwhile waits, and
//     [Server.Waiting] says for what. The last good identity stays.
//   - A version is a hash of certificates: an Envoy that comes back with what it has is
//     sent nothing, and a new leaf does not have the roots sent again.
//   - A stream sends the newest; what changed while an Envoy was slow, it skips.
//   - A version that an Envoy refuses is not sent to it again on that stream.
//   - A key is sent on the socket, which is its user's own (mode 0600), and written
//     nowhere else. It takes no part in versions, and is kept out of what Envoys say.
//
// There are no wildcards: secrets are asked for by name. [Listen] makes the socket.
package sds
