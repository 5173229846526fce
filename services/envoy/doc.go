// Package envoy runs Envoy as a child process that stands for this one: it gets the
// signals that this process gets, writes where this process writes, and its end is ours.
//
// The promises:
//
//   - Envoy is found by name, by ISTHMUS_ENVOY or on the PATH ([Find]); where there is
//     none, the error says how to get one.
//   - Its bootstrap is a file in a directory of its own that only this user may read, not
//     an argument, which everybody on the machine may, and is gone when Envoy is.
//   - SIGTERM and SIGINT have its callers leave before they are passed on: it listens, and
//     asks whoever is connected to leave, until nobody is, or for [Command.DrainWithin].
//     That takes an admin server, and says nothing to the application's own connections.
//     A second signal is passed on at once.
//   - Once Envoy was told to stop it may take [Command.StopWithin] before it is killed.
//     Other signals are passed on, and mean what Envoy makes of them.
//   - Where the system can (Linux), an Envoy does not outlive this process.
//
// Envoys of one machine do not meet: hot restart is off unless the arguments name a base
// ID or an epoch, as `consul connect envoy` has it. A base ID that Envoy chooses for itself
// would leave files in shared memory behind each time.
package envoy
