// Package devagent runs real Consul agents as child processes: for the demo,
// tests and benchmarks, never for production.
//
// The promises:
//
//   - An agent that is returned is ready: it knows a leader, it is in the
//     catalog, and where Connect is on it answers with roots. A federation's
//     datacenters see each other, and each can sign leaves of one trust domain.
//     All of that is asked of the agents, not waited for.
//   - Each agent has a loopback address of its own at which Consul's usual ports
//     are free, and keeps it until [Agent.Close]: several worlds may run at once
//     on one machine, in one process or in many, and never meet.
//   - No agent outlives its parent, on Linux not even one that was killed. Only
//     processes that this package started are ever sent a signal.
//   - A failure quotes the end of the agent's log.
//
// Start one with [Start], three servers of one datacenter with [StartCluster],
// federated datacenters with [StartFederation]. Tests take package agenttest,
// which skips where Consul is not installed and ends what it started.
package devagent
