// Package engine is what the gateway's engines have in common: their [Config],
// the [Listener] that they are given, the reading of a hello up to its end
// ([Intake]), the order in which endpoints are tried ([Choice]), and what is
// counted ([Counts]).
//
// The promise: whatever is decided here is decided alike by every engine. What
// differs between them is how bytes are moved and how one waits. Nothing here
// waits, and nothing but a [Listener] touches a socket.
package engine
