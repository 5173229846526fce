// Package ads serves what an [xdsnode.Machine] holds to Envoys, by Envoy's aggregated
// discovery service.
//
// The promises:
//
//   - Nothing is served before the routes are whole.
//   - An Envoy that says what it has is sent nothing of that again, from whichever node
//     it had it; but the endpoints of a cluster that changed, and the routes of a
//     listener, are sent again with it, since an Envoy would wait 15 s for them.
//   - What it gets comes in the order clusters, endpoints, listeners, routes; a listener,
//     or a route, waits until what it leads to was taken in, and clusters that are gone are
//     taken away when all else was. What is sent is of one moment: a route is never newer
//     than the clusters that were sent before it.
//   - One answer of a type is on its way at a time. What changes meanwhile is sent when
//     that is answered, as it then is: a slow Envoy misses steps, never the end.
//   - What an Envoy refuses is not sent to it again on that stream before it changes,
//     and by the delta protocol keeps back nothing else.
//   - With an [Identity] a proxy's resources go to the one URI that its routes name, and
//     to nobody else. Whoever may not have a proxy does not learn whether it is there. A
//     client that is believed no more loses its stream at once, and its connection.
//   - Streams live for about [Config].StreamAge, and end when nothing is unanswered.
//     Their connections take no new streams by then, so that an Envoy may get to another
//     node.
//   - [Reports] says of a proxy that it is current when it has answered everything that
//     the node has for it; then it is as far as the node. Until then it is where it was
//     before the first change that it has not answered, or has refused. So a change costs
//     as many words as it concerns proxies. A version is a hash of what a proxy has
//     accepted, equal for equal content, whatever the node, the protocol and the way there.
//
// [Server] locks the machine while it takes a transaction or looks up resources; a
// stream holds no lock while it sends.
package ads
