// Package consul is a Consul datacenter as a source of its catalog.
//
// # What it promises
//
// Cheaply. One blocking query for each node, which wakes only when something on
// that node changes and answers with its services, proxies and checks at once;
// one for each kind of config entry and one for the roots. What costs Consul the
// whole catalog at each change (the list of nodes) is asked at most once a
// second, and a node with more than 500 values the less often the larger it is
// (10,000: once a second). What cannot block (the datacenters, the agent's settings,
// prepared queries), or is not shown whole, is asked every ten seconds.
//
// By the rules of Consul's indexes: a query starts anew when its index goes
// backwards, index 0 counts as 1, and a return without a change is no change.
//
// No phantom. A row that is missing because access control hides it is not gone:
// an answer that says that it was filtered, an anonymous answer while access
// control is on, a refusal (403), and a 404 that an unfiltered list of nodes does
// not confirm all leave the last good value, and [Source.Hidden] says why.
//
// Patiently. An agent that is away, or refuses for being too busy, is asked again
// with a growing and jittered pause.
//
// # Scopes
//
//	node/<name>       a node, its checks, and all that is registered on it
//	config/<kind>     all config entries of a kind
//	roots             the roots and the trust domain
//	facts             what holds for the datacenter; without an index
//	prepared-queries  the results of those that upstreams name; without an index
//	nodes             no values: whether all nodes are known
package consul
