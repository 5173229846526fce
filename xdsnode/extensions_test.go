package xdsnode_test

import (
	"slices"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// Extensions are a sidecar's own, though it shares its upstreams: scripts change its
// listeners and nothing else, and one that is required and not applied takes them away
// until it is gone.
func TestExtensionsOfASidecar(t *testing.T) {
	r, m := newRoutes(), xdsnode.NewMachine()
	write := func(extensions string) {
		r.sidecar("n1", "web", "h", false, "api")
		p := r.values[isthmusv1.ProxyKey("", "n1", "", "web")].(*isthmusv1.ProxyRoutes)
		p.Local.Protocol, p.EnvoyExtensionsJson = "http", []byte(extensions)
	}
	write("")
	r.sidecar("n2", "web", "h", false, "api")
	r.routeSet("h", "http", to{"api", "api", ""})
	r.inbound("deny")
	apply(m, r.transaction(true))
	const api, public = "api:127.0.0.1:10000", "public_listener:10.0.0.1:21000"
	for _, step := range []struct {
		name, extensions string
		want             []string
	}{
		{"an inbound script", `[{"name":"builtin/lua","arguments":{"Listener":"inbound","Script":"-- a"}}]`, []string{"n1/web Listener: " + public}},
		{"an outbound one in its place", `[{"name":"builtin/lua","arguments":{"Listener":"outbound","Script":"-- a"}}]`, []string{"n1/web Listener: " + api + "," + public}},
		{"another one", `[{"name":"builtin/lua","arguments":{"Listener":"outbound","Script":"-- b"}}]`, []string{"n1/web Listener: " + api}},
		{"one that is not applied", `[{"name":"builtin/wasm"}]`, []string{"n1/web Listener: " + api, "n1/web stated"}},
		{"and must be", `[{"name":"builtin/wasm","required":true}]`, []string{"n1/web Listener: " + api + "," + public, "n1/web stated"}},
		{"none", ``, []string{"n1/web Listener: " + api + "," + public, "n1/web stated"}},
	} {
		write(step.extensions)
		got := summary(apply(m, r.transaction(false)))
		slices.Sort(got)
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}
