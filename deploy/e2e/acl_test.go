package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// TestDefaultDeny: everything beside two Consul datacenters that deny by default,
// each part with the token that the guide names; and what happens when a right is
// taken away.
func TestDefaultDeny(t *testing.T) {
	w := newACLWorld(t)
	w.startAll()
	t.Run("the guide's tokens are enough", w.testGuideTokens)
	t.Run("callers", w.testCallers)
	// Agents spread new leaves over 30 s, and gateways look at their registration as
	// often: what comes of these rights is looked at in the end.
	before := w.takeWriteRights(t)
	given := ""
	for _, right := range w.guide[partWatcher] {
		t.Run("watcher without "+strings.Fields(right)[0], func(t *testing.T) { w.testWatcherRight(t, right, given) })
		given = right
	}
	t.Run("watcher with its rights", func(t *testing.T) { w.testWatcherRight(t, "", given) })
	t.Run("sidecar without its right", func(t *testing.T) { w.testSidecarRight(t, before) })
	t.Run("gateway without its right", func(t *testing.T) { w.testGatewayRight(t, before) })
	t.Logf("%d events of the catalogs, none of which says that something is gone", w.wantNothingRemoved(t))
}

// testGuideTokens: traffic passes in each mode, and check finds no right missing.
func (w *aclWorld) testGuideTokens(t *testing.T) {
	paths := map[string]string{"remote": "remote-gateway", "local": "local-gateway", "none": "direct", "": "local-gateway"}
	for _, s := range services {
		c := w.awaitPath(t, s.name, s.port, paths[modes[s.name]])
		if want := w.spiffe(s.name, "dc2"); c.Peer != want {
			t.Errorf("%s is %s, want %s", s.name, c.Peer, want)
		}
		t.Logf("mode %q: %s goes %s to %s", modes[s.name], s.name, c.Path, c.Endpoint)
	}
	for _, dc := range datacenters {
		w.awaitCheck(t, dc, partWatcher)
		for policy, service := range map[string]string{partGateway: "mesh-gateway", "web": "web"} {
			if v := w.serviceWrite(t, dc, policy, service); v != nil {
				t.Errorf("%s: %+v", policy, v)
			}
		}
	}
	l := w.startLoad(t, true)
	l.more(t, settled)
	l.verdict(t, "all with the guide's tokens")
}

// serviceWrite is what check says of a token without the right to write a service;
// nil: it has it. What such a token may not see besides fails too.
func (w *aclWorld) serviceWrite(t *testing.T, dc, policy, service string) *verdictOf {
	t.Helper()
	for _, v := range w.check(t, dc, policy, "--service", service) {
		if v.Code == "ACL_SERVICE_WRITE" {
			return &v
		}
	}
	return nil
}

// testCallers: who has no intention is refused, where web is let in.
func (w *aclWorld) testCallers(t *testing.T) {
	for _, caller := range []string{"web", intruder} {
		live := w.followAs(t, caller, "dc1", w.secret("dc1", caller))
		for _, s := range services {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := request(ctx, w.dc2+"20:8444", live.ClientConfig(w.sni(s.name), []string{w.spiffe(s.name, "dc2")}, identity.Parameters{}), s.name)
			if refused := err != nil && strings.Contains(err.Error(), `answered ""`); err != nil && !refused || refused != (caller == intruder) {
				t.Errorf("%s → %s: %v", caller, s.name, err)
			}
			t.Logf("%s → %s: refused: %v", caller, s.name, err)
		}
	}
}

// leafOf is the serial number of the leaf that a service of dc2 shows.
func (w *aclWorld) leafOf(ctx context.Context, service string) (string, error) {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: w.sni(service), InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}
	conn, err := dialer.DialContext(ctx, "tcp", w.dc2+"20:8444")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// ended is where things were when the rights to write were taken away: where logs
// ended, and which leaves services had.
type ended struct {
	logs   map[string]int
	leaves map[string]string
}

// takeWriteRights takes their rights from web's sidecar and the gateways, and has all
// leaves renewed by replacing the root.
func (w *aclWorld) takeWriteRights(t *testing.T) ended {
	t.Helper()
	before := ended{make(map[string]int), make(map[string]string)}
	for _, name := range []string{"web", "gateway.dc1", "gateway.dc2"} {
		before.logs[name] = len(w.roles[name].logged(t, 0))
	}
	for _, s := range services {
		serial, err := w.leafOf(t.Context(), s.name)
		if err != nil {
			t.Fatal(err)
		}
		before.leaves[s.name] = serial
	}
	w.write("web", nil)
	w.write(partRegistrar, registrarRules())
	w.grant(partGateway, nil)
	w.call("dc1", http.MethodPut, "/v1/connect/ca/configuration", map[string]any{
		"Provider": "consul", "Config": map[string]any{"PrivateKeyType": "ec", "PrivateKeyBits": 384},
	}, nil)
	return before
}

// testSidecarRight: while all others have new leaves, of a new root, web's sidecar
// serves with its last one, and says why.
func (w *aclWorld) testSidecarRight(t *testing.T, before ended) {
	web := w.roles["web"]
	l := w.startLoad(t, true)
	await(t, "web's sidecar does not say that it has no new leaf", func(context.Context) error {
		return web.says(t, before.logs["web"], "no newer identity; the last one stays", "service:write", "web")
	})
	await(t, "leaves are not renewed", func(ctx context.Context) error {
		for service, old := range before.leaves {
			if now, err := w.leafOf(ctx, service); err != nil || now == old {
				return fmt.Errorf("%s has its old leaf %s: %w", service, old, err)
			}
		}
		return nil
	})
	l.more(t, settled)
	for line := range strings.Lines(web.logged(t, before.logs["web"])) {
		t.Logf("web's sidecar logged: %s", strings.TrimSpace(line))
	}
	if err := web.trouble(t.Context(), 1); err != nil {
		t.Error(err)
	}
	w.wantServiceWrite(t, "dc1", "web", "web", w.guide[partSidecar])
	w.grant("web", w.sidecarRules("web"))
	await(t, "web's sidecar gets no new leaf", func(ctx context.Context) error {
		return web.trouble(ctx, 0)
	})
	l.more(t, settled)
	l.verdict(t, "web without its right while the root was replaced")
}

// wantServiceWrite wants check to name the rule that a token lacks.
func (w *aclWorld) wantServiceWrite(t *testing.T, dc, policy, service string, rules []string) {
	t.Helper()
	v := w.serviceWrite(t, dc, policy, service)
	if v == nil || !strings.Contains(v.Fix, rules[0]) {
		t.Fatalf("isthmus check --service %s says %+v, want %s", service, v, rules[0])
	}
	t.Logf("isthmus check --service %s: %s: %s; fix: %s", service, v.Code, v.Found, v.Fix)
}

// taken is how a watcher and check notice that a right is missing.
var taken = map[string]struct {
	// scope that is hidden, of those that are; DC is the datacenter.
	scope string
	fails []string
}{
	`node_prefix "" { policy = "read" }`:    {"nodes", []string{"ACL_NODE_READ"}},
	`service_prefix "" { policy = "read" }`: {"node/DC-server", []string{"ACL_SERVICE_READ", "ACL_INTENTIONS_READ"}},
	// What the agent does not tell about itself is not known.
	`agent_prefix "" { policy = "read" }`: {"facts", []string{"INTENTION_DEFAULT", "ACL_AGENT_READ"}},
	`mesh = "read"`:                       {"config/exported-services", []string{"ACL_MESH_READ"}},
}

// testWatcherRight takes one right from running watchers and gives them another back,
// then starts them anew; each may be none.
func (w *aclWorld) testWatcherRight(t *testing.T, right, given string) {
	want := taken[right]
	if right != "" && want.scope == "" {
		t.Fatalf("the guide names a right of which this test does not know how it is missed: %s", right)
	}
	began := time.Now()
	l := w.startLoad(t, true)
	l.more(t, settled)
	watchers := map[string]*process{"dc1": w.roles["watcher.dc1"], "dc2": w.roles["watcher.dc2"]}
	offsets := make(map[string]int)
	for _, dc := range datacenters {
		offsets[dc] = len(watchers[dc].logged(t, 0))
	}
	w.grant(partWatcher, slices.DeleteFunc(slices.Clone(w.guide[partWatcher]), func(r string) bool { return r == right }))
	awaitNoticed := func(dc string, words, right string) {
		t.Helper()
		if right == "" {
			return
		}
		scope := strings.ReplaceAll(taken[right].scope, "DC", dc)
		w.stirUntil(t, "nobody notices in "+dc, func() error { return watchers[dc].says(t, offsets[dc], words, " scope="+scope) })
	}
	for _, dc := range datacenters {
		awaitNoticed(dc, "may not be shown", right)
		awaitNoticed(dc, "is shown again", given)
	}
	noticed := time.Since(began)
	l.more(t, settled)
	w.wantNothingRemoved(t)

	for _, dc := range datacenters {
		watchers[dc].stop(t)
		offsets[dc] = len(watchers[dc].logged(t, 0))
		watchers[dc].start(w.t)
	}
	for _, dc := range datacenters {
		awaitNoticed(dc, "may not be shown", right)
		failing := w.awaitCheck(t, dc, partWatcher, want.fails...)
		if right != "" && !slices.ContainsFunc(failing, func(v verdictOf) bool { return strings.Contains(v.Fix, right) }) {
			t.Errorf("isthmus check does not name %s: %+v", right, failing)
		}
		for _, v := range failing {
			t.Logf("isthmus check of %s: %s: %s; fix: %s", dc, v.Code, v.Found, v.Fix)
		}
	}
	l.more(t, settled)
	l.verdict(t, "without %q: running watchers said so after %s, new ones after %s; %d events of the catalogs, nothing removed",
		right, noticed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), w.wantNothingRemoved(t))
}

// testGatewayRight: a gateway that may no longer register itself goes on as it is,
// says what is missing, and is whole when it may again.
func (w *aclWorld) testGatewayRight(t *testing.T, before ended) {
	l := w.startLoad(t, true)
	l.more(t, settled)
	for _, dc := range datacenters {
		gateway, offset := w.roles["gateway."+dc], before.logs["gateway."+dc]
		await(t, "the gateway does not say what is missing", func(context.Context) error {
			return gateway.says(t, offset, "the gateway is not registered, or that cannot be seen", "service:write", "mesh-gateway")
		})
		for line := range strings.Lines(gateway.logged(t, offset)) {
			t.Logf("the gateway of %s logged: %s", dc, strings.TrimSpace(line))
		}
		w.wantServiceWrite(t, dc, partGateway, "mesh-gateway", w.guide[partGateway])
	}
	l.more(t, settled)
	w.grant(partGateway, w.guide[partGateway])
	for _, dc := range datacenters {
		await(t, "the gateway is not registered anew", func(context.Context) error {
			return w.roles["gateway."+dc].says(t, before.logs["gateway."+dc], "the gateway is registered")
		})
	}
	l.more(t, settled)
	l.verdict(t, "gateways without their right")
}
