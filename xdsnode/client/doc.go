// Package client is a small delta xDS client: it reads what a control plane
// serves to one proxy, Consul's own or ours, so that both can be compared.
//
//	c := client.New(client.Config{Address: "127.0.0.1:8502", ID: "web-sidecar-proxy"})
//	go c.Run(ctx)
//	snapshot, err := c.Await(ctx, (*client.Snapshot).Complete)
//
// The promises:
//
//   - It asks as Envoy does: every cluster and listener, and by name the
//     endpoints of the clusters and the routes of the listeners that there are. It
//     acknowledges each answer, and goes on following.
//   - What it shows is plain values, of what it understands, beside the messages as
//     they were sent: a [Snapshot] never changes, and has nothing of an answer that
//     was refused.
//   - An answer with a resource that cannot be read, or is not what it says it
//     is, is refused as a whole (NACK), and what was there before stays. The
//     refusal is in [Snapshot.Refused].
//
// What it does not do: it reads no secrets, keeps nothing beyond its stream, and
// does not connect again. [Client.Run] ends with the stream.
package client
