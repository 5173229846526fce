package check_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/check"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// rules are what a watcher needs, and for the leaf of web.
var rules = map[string]string{
	"node":    `node_prefix "" { policy = "read" }`,
	"service": `service_prefix "" { policy = "read" }`,
	"agent":   `agent_prefix "" { policy = "read" }`,
	"mesh":    `mesh = "read"`,
	"leaf":    `service "web" { policy = "write" }`,
}

// newToken makes a token of the rules, but for those that are replaced.
func newToken(t *testing.T, a *devagent.Agent, name string, replaced map[string]string) string {
	t.Helper()
	var text []string
	for key, rule := range rules {
		if other, ok := replaced[key]; ok {
			rule = other
		}
		text = append(text, rule)
	}
	put(t, a, "/v1/acl/policy", map[string]any{"Name": name, "Rules": strings.Join(text, "\n")})
	var token struct{ SecretID string }
	body := map[string]any{"Policies": []any{map[string]any{"Name": name}}}
	if err := a.Call(patient(t), http.MethodPut, "/v1/acl/token", body, &token); err != nil {
		t.Fatal(err)
	}
	return token.SecretID
}

// With the rights of the documents all is well; each one that is missing is named,
// and nothing fails that does not follow from it.
func TestRights(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{ACL: devagent.NewACL()}, "dc1", "dc2")
	registerMesh(t, dcs[0])
	for name, test := range map[string]struct {
		replaced map[string]string
		fails    []string
		code     check.Code
		right    string
	}{
		"nothing missing": {},
		"node:read":       {map[string]string{"node": ""}, []string{"ACL_NODE_READ dc1"}, check.ACLNodeRead, "node:read on all nodes"},
		"service:read": {
			map[string]string{"service": `service_prefix "" { policy = "deny" intentions = "read" }`},
			[]string{"ACL_SERVICE_READ dc1"}, check.ACLServiceRead, "service:read on all services",
		},
		"service:read and what it implies": {
			map[string]string{"service": ""}, []string{"ACL_SERVICE_READ dc1", "ACL_INTENTIONS_READ dc1"}, check.ACLServiceRead, "service:read on all services",
		},
		"intentions:read": {
			map[string]string{"service": `service_prefix "" { policy = "read" intentions = "deny" }`},
			[]string{"ACL_INTENTIONS_READ dc1"}, check.ACLIntentionsRead, "intentions:read on all services",
		},
		// Without it the default intention policy is not known.
		"agent:read":    {map[string]string{"agent": ""}, []string{"ACL_AGENT_READ dc1", "INTENTION_DEFAULT dc1"}, check.ACLAgentRead, "agent:read"},
		"mesh:read":     {map[string]string{"mesh": ""}, []string{"ACL_MESH_READ dc1"}, check.ACLMeshRead, "mesh:read"},
		"operator:read": {map[string]string{"mesh": `operator = "read"`}, nil, "", ""},
		"service:write": {map[string]string{"leaf": ""}, []string{"ACL_SERVICE_WRITE dc1"}, check.ACLServiceWrite, "service:write on web"},
	} {
		t.Run(name, func(t *testing.T) {
			token := newToken(t, dcs[0], strings.NewReplacer(" ", "-", ":", "-").Replace(name), test.replaced)
			// The agent has the leaf, which it would hand to anybody.
			if err := dcs[0].Call(patient(t), http.MethodGet, "/v1/agent/connect/ca/leaf/web", nil, nil); err != nil {
				t.Fatal(err)
			}
			findings := runWith(t, check.Options{Targets: []check.Target{target(t, dcs[0], "dc1", token)}, Services: []string{"web"}})
			findings = check.In(findings, "here", []string{"dc1"})
			wantBad(t, findings, check.Fail, test.fails...)
			if test.code == "" {
				wantBad(t, findings, check.Warn)
				return
			}
			f := one(t, findings, check.Fail, test.code, "dc1")
			if !strings.Contains(f.Found, test.right) || f.Fix == "" || strings.Contains(f.Found, token) {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("no token", func(t *testing.T) {
		findings := check.In(runWith(t, check.Options{Targets: []check.Target{target(t, dcs[0], "dc1", "")}}), "here", []string{"dc1"})
		wantBad(t, findings, check.Fail, "ACL_TOKEN dc1", "ACL_NODE_READ dc1", "ACL_SERVICE_READ dc1", "ACL_INTENTIONS_READ dc1",
			"ACL_AGENT_READ dc1", "ACL_MESH_READ dc1", "INTENTION_DEFAULT dc1")
	})
	t.Run("an unknown token", func(t *testing.T) {
		const unknown = "99999999-1111-2222-3333-444444444444"
		findings := check.In(runWith(t, check.Options{Targets: []check.Target{target(t, dcs[0], "dc1", unknown)}}), "here", []string{"dc1"})
		for _, f := range findings {
			if strings.Contains(f.Found+f.Fix+f.Subject, unknown) {
				t.Errorf("the token is in %+v", f)
			}
		}
		one(t, findings, check.Fail, check.ACLToken, "dc1")
	})
}
