// Package bootstrap makes the configuration that an Envoy starts with: who it is, and
// where it gets the rest from. It is pure: equal input gives equal bytes.
//
// What it writes is plain: `envoy -c` takes it. Proxies are named in it as
// `consul connect envoy` names them, so that any control plane for Consul knows them.
package bootstrap
