// Command bench measures Isthmus, side by side with its peers where it has any,
// in one run on one machine:
//
//   - the gateway against Envoy, HAProxy and nginx, without access logs and then
//     with them: new connections per second, the proxy's own processor time for
//     each, bytes one way, the memory of an idle connection, and the latency that
//     it adds to a request and to a new connection. All route by the server name in
//     the ClientHello to the same backend and never decrypt;
//   - the pipeline: from an event's append to the gateway's table;
//   - the resolver: one changed instance in small and large catalogs, and the
//     first resolution of a large one;
//   - the watcher beside a real Consul agent: from a registration to its event in
//     the log next to a bare blocking query, a flip of the global mode, what
//     watching costs the agent and us, and the first reading of a large catalog;
//   - the xds node beside Consul's own xDS: from a change in the catalog to its ACK by
//     real Envoys; a flip of the global mode to thousands of streams, the memory and
//     processor of each, and what they are sent as they move to another node; and one
//     endpoint that changes in small and large catalogs;
//   - a new connection through the gateways of two datacenters with 50 ms between
//     them, with connections opened ahead and without, towards our gateway and an Envoy.
//
// Rounds of all contenders are interleaved and medians are printed, so that a
// machine that changes its mood does so for everybody. The load and the backend
// run in this process, on the same cores as the proxy: the processor time per
// connection is the figure to trust, since it leaves them out.
//
// Everything stays on loopback, is bounded in count and time, and stops by
// itself. A peer that is not installed is said aloud, and is an error under CI
// (`task tools` installs them).
package main
