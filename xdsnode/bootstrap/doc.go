// Package bootstrap makes the configuration that an Envoy starts with: who it is, and
// where it gets the rest from. It is pure: equal input gives equal bytes.
//
// What it writes is plain: `envoy -c` takes it. Proxies are named in it as
// `consul connect envoy` names them, so that any control plane for Consul knows them, and
// statistics have the tags that Consul's have.
//
// With a socket of secrets ([Config.SDS]), the xds nodes are spoken to over mutual TLS
// with the proxy's own leaf, and must be who they should be. Envoy asks the socket first,
// again and again where nobody serves there yet, and the nodes once it has both secrets.
//
// What a user adds ([JSON] texts, a template) is put in as it is. That it is JSON is
// checked here, with its place; that it is Envoy's, Envoy checks.
package bootstrap
