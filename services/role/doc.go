// Package role is the life of a role of Isthmus: what starts, in which order,
// when it is ready, what it says of itself meanwhile, and how it stops.
//
// The promises:
//
//   - Components start one after another, each only after all that it names in
//     After have started; of those that may start, the one that stands first in
//     the table starts first. So two runs start in the same order.
//   - They stop in exactly the reverse of the order in which they started, each
//     only after all that started later have ended.
//   - The first component that fails, or that ends without being told to, stops
//     all the others; [Run] returns that first cause, and beside it whatever
//     failed while stopping.
//   - A role is ready when every component says so; until then [Health] says in
//     a sentence what is being waited for.
//   - The first SIGTERM or SIGINT stops gracefully, the second one kills.
//
// It is a table and a rule of order, not a framework: there is no container, no
// registry and no state machine, and a component is one function that blocks.
//
// Beside that stand the small things that every role has in common: the admin
// HTTP server ([Admin]), the log handler ([NewLogHandler]), what the binary knows
// of its own making ([ReadBuild]), and the order in which a setting is taken
// from flags, environment, file and default ([Resolve]).
package role
