// Package consul is the only place that talks to Consul's HTTP API: queries, the
// leaves of the local agent, registrations.
//
// # What it promises
//
// As it stands. A query answers with the model's values ([isthmusv1]), converted
// and in canonical order, so that equal content gives equal bytes; no rule is
// applied to them. What Consul holds is never refused here: an invalid mode is
// handed on as it was written.
//
// With its circumstances. Each [Answer] says at which index it was given, how
// far behind the leader, and whether access control may have kept rows from it
// ([Answer.Partial]): an answer with rows missing is never to be taken for a
// deletion.
//
// Few connections. Where the agent offers HTTPS, HTTP/2 carries all blocking
// queries over a handful of connections; on plain HTTP each takes one of its own,
// and an agent refuses more than 200 of them from one address
// (limits.http_max_conns_per_client).
//
// In secret. Tokens go to the agent and nowhere else: no error, log or value of
// this package holds one. A private key that an agent hands out leaves by
// [identity.Identity] only.
//
// Consul's own environment variables (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
// CONSUL_CACERT, …) are the defaults of [Options].
package consul
