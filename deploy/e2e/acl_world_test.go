package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// datacenters of a Consul world, the primary first.
var datacenters = []string{"dc1", "dc2"}

// aclWorld is a Consul world whose agents deny by default. Each process has a token
// with the rules that the guide names for it, and nothing else.
type aclWorld struct {
	*consulWorld
	guide map[string][]string
	// policies are the IDs by name, and tokens the files by policy and datacenter.
	policies, tokens map[string]string
	stirred          int
}

// Parts as the guide names them.
const (
	partWatcher = "watcher"
	partSidecar = "sidecar of web"
	partGateway = "gateway with --register"
	partXDS     = "xds with --consul"
	partOthers  = "gateway, resolver, xds"
)

// guideRules are the rules of each part. They are read from the guide's table, so
// that what is tested is what operators are told.
func guideRules(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/consul.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| part | rules | why |\n|---|---|---|\n")
	if !found {
		t.Fatal("the guide has no table of tokens")
	}
	rules := make(map[string][]string)
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			break
		}
		part := strings.TrimSpace(strings.ReplaceAll(cells[1], "`", ""))
		rules[part] = nil
		for rule := range strings.SplitSeq(cells[2], "<br>") {
			if rule = strings.Trim(rule, " `"); rule != "none" {
				rules[part] = append(rules[part], rule)
			}
		}
	}
	for _, part := range []string{partWatcher, partSidecar, partGateway, partXDS, partOthers} {
		got, named := rules[part]
		if !named || len(got) == 0 != (part == partOthers) {
			t.Fatalf("the guide names the rules %q for %s", got, part)
		}
	}
	return rules
}

// newACLWorld starts two Consul datacenters that deny by default, makes the tokens,
// registers web and its upstreams, and lets web call them.
func newACLWorld(t *testing.T) *aclWorld {
	t.Helper()
	w := &aclWorld{
		consulWorld: newFederationOf(t, devagent.Config{ACL: devagent.NewACL()}, "127.247", "127.248"), guide: guideRules(t),
		policies: make(map[string]string), tokens: make(map[string]string),
	}
	// Only the tokens that are given to processes count.
	for _, variable := range []string{"CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"} {
		t.Setenv(variable, "")
	}
	w.configure("dc1", map[string]any{"Kind": "proxy-defaults", "Name": "global", "MeshGateway": map[string]any{"Mode": "local"}})
	for _, s := range services {
		w.configure("dc1", map[string]any{
			"Kind": "service-intentions", "Name": s.name, "Sources": []any{map[string]any{"Name": "web", "Action": "allow"}},
		})
		w.write(s.name, w.sidecarRules(s.name))
	}
	w.write("web", w.sidecarRules("web"))
	w.write(intruder, w.sidecarRules(intruder))
	w.write(partRegistrar, registrarRules("web"))
	w.write(partWatcher, w.guide[partWatcher])
	w.write(partGateway, w.guide[partGateway])
	w.write(partXDS, w.guide[partXDS])
	for name := range w.policies {
		w.awaitCopied(name)
		for _, dc := range datacenters {
			w.token(dc, name)
		}
	}
	w.registerServices(services, &devagent.Agent{
		Node: w.agents["dc1"].Node, HTTP: w.agents["dc1"].HTTP, Token: w.secret("dc1", partRegistrar),
	})
	return w
}

// partRegistrar is who registers web: not the operator, since Consul's agent has the
// leaves of registered proxies signed by the token of their registration too, and
// hands them to anybody.
const partRegistrar = "registrar of web"

// registrarRules let a service and its sidecar be registered.
func registrarRules(services ...string) []string {
	rules := []string{`service "web-sidecar-proxy" { policy = "write" }`}
	for _, service := range services {
		rules = append(rules, fmt.Sprintf("service %q { policy = \"write\" }", service))
	}
	return rules
}

// intruder is a service of dc1 that no intention lets in.
const intruder = "intruder"

// sidecarRules are those of a service's sidecar: web's with its name.
func (w *aclWorld) sidecarRules(service string) (rules []string) {
	for _, rule := range w.guide[partSidecar] {
		rules = append(rules, strings.ReplaceAll(rule, `"web"`, `"`+service+`"`))
	}
	return rules
}

// grant gives a policy these rules in both datacenters.
func (w *aclWorld) grant(name string, rules []string) {
	w.t.Helper()
	w.write(name, rules)
	w.awaitCopied(name)
}

// write writes a policy in the primary.
func (w *aclWorld) write(name string, rules []string) {
	w.t.Helper()
	text, path := strings.Join(rules, "\n"), "/v1/acl/policy"
	policy := map[string]any{"Name": policyName(name), "Rules": text}
	if id := w.policies[name]; id != "" {
		policy["ID"], path = id, path+"/"+id
	}
	var made struct{ ID string }
	w.call("dc1", http.MethodPut, path, policy, &made)
	w.policies[name] = made.ID
}

// awaitCopied waits until dc2 has a policy as it is in the primary.
func (w *aclWorld) awaitCopied(name string) {
	w.t.Helper()
	var written, copied struct{ Rules string }
	path := "/v1/acl/policy/" + w.policies[name]
	w.call("dc1", http.MethodGet, path, nil, &written)
	await(w.t, "dc2 does not copy the policy of "+name, func(ctx context.Context) error {
		err := w.agents["dc2"].Call(ctx, http.MethodGet, path, nil, &copied)
		if err == nil && copied != written {
			err = fmt.Errorf("it has %q", copied.Rules)
		}
		return err
	})
}

// policyName is a name as policies may have it.
func policyName(name string) string {
	return "isthmus-" + strings.NewReplacer(" ", "-", ",", "").Replace(name)
}

// token makes a token with a policy, local to the datacenter.
func (w *aclWorld) token(dc, policy string) {
	w.t.Helper()
	var made struct{ SecretID string }
	w.call(dc, http.MethodPut, "/v1/acl/token", map[string]any{
		"Local": true, "Policies": []any{map[string]any{"ID": w.policies[policy]}},
	}, &made)
	file := w.path(policyName(policy) + "." + dc + ".token")
	if err := os.WriteFile(file, []byte(made.SecretID), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.tokens[policy+"@"+dc] = file
}

// secret is that of a token.
func (w *aclWorld) secret(dc, policy string) string {
	w.t.Helper()
	secret, err := os.ReadFile(w.tokens[policy+"@"+dc])
	if err != nil {
		w.t.Fatal(err)
	}
	return string(secret)
}

// withToken has a process use the token of a policy.
func (w *aclWorld) withToken(p *process, dc, policy string) *process {
	p.args = append(p.args, "--consul-token-file", w.tokens[policy+"@"+dc])
	return p
}

// startAll starts each part with its token: those for which the guide names no rules
// have none.
func (w *aclWorld) startAll() {
	w.t.Helper()
	w.startBus()
	for _, dc := range datacenters {
		watcher := w.role("watcher."+dc, "watcher", "--datacenter", dc, "--nats", w.nats, "--consul", w.agents[dc].HTTP)
		w.withToken(watcher, dc, partWatcher).start(w.t)
		w.role("resolver."+dc, "resolver", "--datacenter", dc, "--nats", w.nats).start(w.t)
	}
	for _, dc := range datacenters {
		network := map[string]string{"dc1": w.dc1, "dc2": w.dc2}[dc]
		gateway := w.role("gateway."+dc, "gateway", "--datacenter", dc, "--nats", w.nats, "--register", "--consul", w.agents[dc].HTTP,
			"--address", network+"20:8443", "--wan-address", network+"20:8444", "--state-dir", w.path("gateway."+dc))
		w.withToken(gateway, dc, partGateway).start(w.t)
	}
	xds := w.role("xds.dc2", "xds", "--datacenter", "dc2", "--nats", w.nats, "--listen", w.dc2+"30:9510", "--consul", w.agents["dc2"].HTTP)
	w.withToken(xds, "dc2", partXDS).start(w.t) // It is ready when it has its leaf.
	for _, s := range services {
		w.withToken(w.sidecar("dc2", s.name), "dc2", s.name).start(w.t)
	}
	w.withToken(w.sidecar("dc1", "web"), "dc1", "web").start(w.t)
}

// verdictOf is what one check found.
type verdictOf struct{ Code, Status, Subject, Found, Fix string }

// check runs "isthmus check" in a datacenter with the token of a policy, and returns
// what fails.
func (w *aclWorld) check(t *testing.T, dc, policy string, more ...string) []verdictOf {
	t.Helper()
	out, err := run(t, append([]string{
		"check", "--consul", dc + "=" + w.agents[dc].HTTP, "--datacenter", dc, "--nats", w.nats,
		"--consul-token-file", w.tokens[policy+"@"+dc], "-o", "json",
	}, more...)...)
	var all, failing []verdictOf
	if decoded := json.Unmarshal([]byte(out), &all); decoded != nil {
		t.Fatalf("isthmus check: %v: %s", err, out)
	}
	for _, v := range all {
		if v.Status == "fail" {
			failing = append(failing, v)
		}
	}
	return failing
}

// awaitCheck waits until exactly these codes fail in a datacenter, and returns them.
func (w *aclWorld) awaitCheck(t *testing.T, dc, policy string, codes ...string) (failing []verdictOf) {
	t.Helper()
	await(t, "isthmus check of "+dc, func(context.Context) error {
		failing = w.check(t, dc, policy)
		var got []string
		for _, v := range failing {
			got = append(got, v.Code)
		}
		if fmt.Sprint(got) != fmt.Sprint(codes) {
			return fmt.Errorf("want %q to fail, got %+v", codes, failing)
		}
		return nil
	})
	return failing
}

// event is a line of "isthmus log -o json".
type event struct{ Datacenter, Kind, Key, Change, Text string }

// wantNothingRemoved counts the events of the catalogs: nothing was ever taken away
// here, so none may say so.
func (w *aclWorld) wantNothingRemoved(t *testing.T) int {
	t.Helper()
	out, err := run(t, "log", "--nats", w.nats, "-o", "json")
	if err != nil {
		t.Fatalf("isthmus log: %v: %s", err, out)
	}
	n := 0
	for line := range strings.Lines(out) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("isthmus log: %v: %s", err, line)
		}
		if n++; e.Change == "removed" {
			t.Errorf("a phantom deletion in %s: %s", e.Datacenter, e.Text)
		}
	}
	return n
}

// stir changes something of each kind that a watcher follows, and ends nothing: a
// query that waits keeps the rights that it began with, and the next one has the
// new ones.
func (w *aclWorld) stir() {
	w.t.Helper()
	w.stirred++
	round := fmt.Sprintf("round-%d", w.stirred)
	for _, dc := range datacenters {
		w.call(dc, http.MethodPut, "/v1/catalog/register", map[string]any{
			"Node": "stirred", "Address": w.dc1 + "99", "NodeMeta": map[string]any{"round": round},
		}, nil)
		w.call(dc, http.MethodPut, "/v1/agent/service/register", map[string]any{"Name": "stirred", "Meta": map[string]any{"round": round}}, nil)
	}
	w.configure("dc1", map[string]any{"Kind": "exported-services", "Name": "default", "Services": []any{
		map[string]any{"Name": "stirred", "Consumers": []any{map[string]any{"Peer": round}}},
	}})
	w.configure("dc1", map[string]any{"Kind": "service-defaults", "Name": "stirred", "ExternalSNI": round})
	w.configure("dc1", map[string]any{"Kind": "service-intentions", "Name": "stirred", "Sources": []any{
		map[string]any{"Name": "web", "Action": "allow", "Description": round},
	}})
}

// stirEvery is how often the world is stirred while something is waited for.
const stirEvery = 500 * time.Millisecond

// stirUntil stirs until look is content.
func (w *aclWorld) stirUntil(t *testing.T, what string, look func() error) {
	t.Helper()
	var last time.Time
	await(t, what, func(context.Context) error {
		err := look()
		if err != nil && time.Since(last) > stirEvery {
			w.stir()
			last = time.Now()
		}
		return err
	})
}

// logged is what the process has logged beyond an offset.
func (p *process) logged(t *testing.T, from int) string {
	t.Helper()
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[from:])
}

// says reports whether a process logged a line with all of these words beyond an offset.
func (p *process) says(t *testing.T, from int, words ...string) error {
	t.Helper()
	text := p.logged(t, from)
next:
	for line := range strings.Lines(text) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		return nil
	}
	return errors.New(p.name + " logged: " + text)
}

// trouble wants the metric that says whether a sidecar has trouble with its identity.
func (p *process) trouble(ctx context.Context, want int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/metrics", nil)
	if err != nil {
		return err
	}
	answer, err := newClient(false, nil).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	metric := regexp.MustCompile(fmt.Sprintf(`(?m)^isthmus_sidecar_trouble\{.*with="identity".*\} %d$`, want))
	if err == nil && !metric.Match(text) {
		err = fmt.Errorf("the metrics do not match %s", metric)
	}
	return err
}
