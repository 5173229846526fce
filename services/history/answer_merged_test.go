package history_test

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// mergedAnswer explains a proxy of web that its agent registered, as Consul
// shows it beside the entries; the events of CATALOG_dc1 count from 1: facts,
// proxy, entries.
func mergedAnswer(t *testing.T, instance, upstream string, entries ...*isthmusv1.ConfigEntry) history.Answer {
	t.Helper()
	values := map[isthmusv1.Key]proto.Message{}
	keys := []isthmusv1.Key{isthmusv1.MeshFactsKey(), isthmusv1.InstanceKey("", "n1", "", "web-proxy")}
	values[keys[0]] = &isthmusv1.MeshFacts{Datacenter: "dc1", TrustDomain: trustDomain, DefaultIntentionPolicy: "allow", KnownDatacenters: []string{"dc1", "dc2"}}
	values[keys[1]] = &isthmusv1.ServiceInstance{
		Node: "n1", Id: "web-proxy", Name: "web-proxy", Kind: "connect-proxy", Address: "10.1.0.1", Port: 21000, MergedCentralConfig: true,
		Proxy: &isthmusv1.Proxy{DestinationServiceName: "web", MeshGateway: mode(instance), Upstreams: []*isthmusv1.Upstream{
			{DestinationName: "api", Datacenter: "dc2", LocalBindPort: 1, MeshGateway: mode(upstream)},
		}},
	}
	for _, e := range entries {
		key := isthmusv1.ConfigKey(e.GetKind(), "", "", e.GetName())
		keys, values[key] = append(keys, key), e
	}
	tx := &isthmusv1.Transaction{Stream: "CATALOG_dc1", Incarnation: "a", Sequence: uint64(len(keys)), Reset: true}
	for i, key := range keys {
		tx.Changes = append(tx.Changes, isthmusv1.Change{
			Key: key, Value: values[key], Sequence: uint64(i + 1), Origin: isthmusv1.Cause{Incarnation: "a", Sequence: uint64(i + 1)},
			Source: &isthmusv1.Source{Query: "config", IndexAt: 7},
		})
	}
	m := resolver.New("dc1")
	m.Apply(tx)
	answers, err := m.Explain(resolver.Question{Proxy: "web"})
	if err != nil || len(answers) != 1 {
		t.Fatalf("%d answers, error %v", len(answers), err)
	}
	return history.NewAnswer(answers[0])
}

func globalMode(m string) *isthmusv1.ConfigEntry {
	return &isthmusv1.ConfigEntry{Kind: "proxy-defaults", Name: "global", Entry: &isthmusv1.ConfigEntry_ProxyDefaults{
		ProxyDefaults: &isthmusv1.ProxyDefaults{MeshGateway: mode(m)},
	}}
}

func upstreamDefaults(m string) *isthmusv1.ConfigEntry {
	return defaults(&isthmusv1.ServiceDefaults{UpstreamDefaults: &isthmusv1.UpstreamConfig{MeshGateway: mode(m)}})
}

// TestMergedAnswers: the page shows the mode that wins merged, the level that it
// probably comes from, and whether the agent has yet to merge the entries.
func TestMergedAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer history.Answer
		lines  []string
		json   string
	}{
		{"inherited", mergedAnswer(t, "local", "local", globalMode("local")), []string{
			"             merged                   local   WINS    CATALOG_dc1@2",
			"             proxy-defaults           local   likely  CATALOG_dc1@3",
			"             upstream                 ·",
			"             default                  none    hidden",
			"  likeliest  proxy-defaults",
		}, `{"level":"merged","source":{"stream":"CATALOG_dc1","sequence":2},"hidden":[{"level":"proxy-defaults","mode":"local","source":{"stream":"CATALOG_dc1","sequence":3}}],` +
			`"likeliest":[{"level":"proxy-defaults","mode":"local","source":{"stream":"CATALOG_dc1","sequence":3}}]}`},
		{"of the registration, or not merged yet", mergedAnswer(t, "local", "local", globalMode("remote")), []string{
			"             upstream                 local   likely  CATALOG_dc1@2",
			"             instance                 local   likely  CATALOG_dc1@2",
			"             proxy-defaults           remote  hidden  CATALOG_dc1@3",
			"  likeliest  upstream definition or instance: the entries do not come to local",
			"  agent      pending agent: likely",
			"  ‼ MODE_PENDING_AGENT pending agent, unless the upstream definition or the instance sets it: the proxy shows mode local, while proxy-defaults/global comes to remote",
		}, `{"level":"merged","source":{"stream":"CATALOG_dc1","sequence":2},"hidden":[{"level":"proxy-defaults","mode":"remote","source":{"stream":"CATALOG_dc1","sequence":3}}],` +
			`"likeliest":[{"level":"upstream","mode":"local","source":{"stream":"CATALOG_dc1","sequence":2}},{"level":"instance","mode":"local","source":{"stream":"CATALOG_dc1","sequence":2}}],` +
			`"pending_agent":"likely"}`},
		{"of the upstream", mergedAnswer(t, "remote", "local", globalMode("remote")), []string{
			"  likeliest  upstream definition: the entries do not come to local",
			"  agent      pending agent: possible",
		}, ""},
		{"not merged at all", mergedAnswer(t, "", "", upstreamDefaults("remote")), []string{
			"             upstream-defaults        remote  unmerged  CATALOG_dc1@3",
			"             default                  none    WINS",
			"  agent      pending agent: certain",
			"  ‼ MODE_PENDING_AGENT pending agent: the proxy shows no mode, although service-defaults/web sets remote; its agent has not merged it yet",
		}, `{"level":"default","source":null,"hidden":[],"pending_agent":"certain",` +
			`"unmerged":[{"level":"upstream-defaults","mode":"remote","source":{"stream":"CATALOG_dc1","sequence":3}}]}`},
		{"sticky", mergedAnswer(t, "remote", "local", upstreamDefaults("local"), globalMode("remote")), []string{
			"             upstream-defaults        local   likely  CATALOG_dc1@3",
			"  likeliest  upstream-defaults",
			"  ‼ STICKY_DEFAULTS possibly a sticky default: UpstreamConfig.Defaults of service-defaults/web has mode local, which hides remote of proxy-defaults/global; if nobody wrote it there, Consul's servers inherited it once and keep it",
			"    → rewrite service-defaults/web: `consul config write`, with the mode that you mean in UpstreamConfig.Defaults, so that none is inherited and kept",
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var page strings.Builder
			history.WriteAnswer(&page, tt.answer)
			for _, line := range tt.lines {
				if !strings.Contains(page.String(), "\n"+line+"\n") {
					t.Errorf("no line %q in\n%s", line, page.String())
				}
			}
			got, err := json.Marshal(tt.answer.Targets[0].Decision)
			if err != nil {
				t.Fatal(err)
			}
			if tt.json != "" && string(got) != tt.json {
				t.Errorf("JSON\n%s, want\n%s", got, tt.json)
			}
		})
	}
}
