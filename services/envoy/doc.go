// Package envoy runs Envoy as a child process that stands for this one: it gets the
// signals that this process gets, writes where this process writes, and its end is ours.
//
// The promises:
//
//   - Envoy is found by name, by ISTHMUS_ENVOY or on the PATH ([Find]); where there is
//     none, the error says how to get one.
//   - Its bootstrap is a file in a directory of its own that only this user may read, not
//     an argument, which everybody on the machine may, and is gone when Envoy is.
//   - SIGTERM and SIGINT are passed on, and Envoy may then take [Command.StopWithin]
//     before it is killed. Other signals are passed on, and mean what Envoy makes of them.
//   - Where the system can (Linux), an Envoy does not outlive this process.
//
// Several Envoys on one machine need base IDs of their own, so one is chosen for it
// unless the arguments say otherwise.
package envoy
