package definition_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// pair is one key of an object in the order in which it is written. Raw keys
// are names that people choose and are never respelled.
type pair struct {
	key   string
	value any
	raw   bool
}

type object []pair

// drawEntry draws a legal config entry or service definition.
func drawEntry(t *rapid.T) object {
	mode := func(label string) object {
		return object{{key: "mode", value: rapid.SampledFrom([]string{"none", "local", "remote"}).Draw(t, label)}}
	}
	name := rapid.StringMatching(`[a-z][a-z0-9-]{0,10}[a-z0-9]`)
	number := rapid.IntRange(1, 65535)
	meta := object{}
	for i, key := range rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z_]{1,8}`), 0, 3, rapid.ID[string]).Draw(t, "meta") {
		meta = append(meta, pair{key, rapid.SampledFrom([]any{"text", true, 7 + i, "a \"quoted\" \\ text", "ünïcode"}).Draw(t, "value"), true})
	}
	config := append(slices.Clone(meta), pair{"nested", object{{"list", []any{1, "two", object{{"three", 2.5, true}}}, true}}, true})
	head := func(kind string) object {
		return object{{key: "kind", value: kind}, {key: "name", value: name.Draw(t, "name")}, {key: "meta", value: meta}}
	}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		return object{{key: "kind", value: "proxy-defaults"}, {key: "mesh_gateway", value: mode("mode")}, {key: "config", value: config},
			{key: "access_logs", value: object{{key: "enabled", value: true}, {key: "json_format", value: "{}"}}}}
	case 1:
		return append(head("service-defaults"), pair{key: "protocol", value: "http"}, pair{key: "external_sni", value: "a.example"},
			pair{key: "rate_limits", value: object{{key: "instance_level", value: object{{key: "requests_per_second", value: 5}, {key: "routes", value: []any{object{{key: "path_exact", value: "/a"}}}}}}}},
			pair{key: "envoy_extensions", value: []any{object{{key: "name", value: "builtin/x"}, {key: "arguments", value: object{{"Raw_Key", 1, true}}}}}},
			pair{key: "upstream_config", value: object{
				{key: "defaults", value: object{{key: "mesh_gateway", value: mode("mode")}, {key: "connect_timeout_ms", value: number.Draw(t, "timeout")}}},
				{key: "overrides", value: []any{
					object{{key: "name", value: "one"}, {key: "mesh_gateway", value: mode("mode")}},
					object{{key: "name", value: "two"}, {key: "passive_health_check", value: object{{key: "interval", value: "10s"}, {key: "enforcing_consecutive_5xx", value: 50}}}},
				}},
			}})
	case 2:
		return append(head("service-resolver"), pair{key: "default_subset", value: "v1"}, pair{key: "connect_timeout", value: "3s"},
			pair{key: "subsets", value: object{{"v1", object{{key: "only_passing", value: rapid.Bool().Draw(t, "passing")}}, true}, {"v2", object{{key: "filter", value: "Service.Meta.v == 2"}}, true}}},
			pair{key: "load_balancer", value: object{{key: "policy", value: "ring_hash"}, {key: "ring_hash_config", value: object{{key: "minimum_ring_size", value: number.Draw(t, "ring")}}},
				{key: "hash_policies", value: []any{object{{key: "field", value: "cookie"}, {key: "cookie_config", value: object{{key: "ttl", value: "5s"}}}}}}}},
			pair{key: "failover", value: object{{"*", object{{key: "datacenters", value: []any{"dc2", "dc3"}}}, true}}})
	case 3:
		weight := rapid.IntRange(0, 100).Draw(t, "weight")
		return append(head("service-splitter"), pair{key: "splits", value: []any{
			object{{key: "weight", value: weight}, {key: "service_subset", value: "v1"}, {key: "request_headers", value: object{{key: "set", value: object{{"X-A", "1", true}}}}}},
			object{{key: "weight", value: 100 - weight}, {key: "service_subset", value: "v2"}},
		}})
	case 4:
		return append(head("service-router"), pair{key: "routes", value: []any{object{
			{key: "match", value: object{{key: "http", value: object{{key: "path_prefix", value: "/a"}, {key: "query_param", value: []any{object{{key: "name", value: "q"}, {key: "present", value: true}}}}}}}},
			{key: "destination", value: object{{key: "service", value: name.Draw(t, "to")}, {key: "prefix_rewrite", value: "/"}, {key: "retry_on_status_codes", value: []any{502, 503}}}},
		}}})
	case 5:
		return append(head("service-intentions"), pair{key: "sources", value: []any{
			object{{key: "name", value: "*"}, {key: "action", value: rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "action")}},
			object{{key: "name", value: "web"}, {key: "permissions", value: []any{object{{key: "action", value: "allow"}, {key: "http", value: object{{key: "path_exact", value: "/x"}}}}}}},
		}})
	}
	service := object{{key: "name", value: name.Draw(t, "service")}, {key: "port", value: number.Draw(t, "port")}, {key: "meta", value: meta},
		{key: "tags", value: []any{"a", "b"}}, {key: "enable_tag_override", value: true},
		{key: "tagged_addresses", value: object{{"wan", object{{key: "address", value: "10.0.0.1"}, {key: "port", value: 443}}, true}}},
		{key: "connect", value: object{{key: "sidecar_service", value: object{{key: "proxy", value: object{
			{key: "mesh_gateway", value: mode("mode")}, {key: "config", value: config}, {key: "local_service_address", value: "127.0.0.9"},
			{key: "upstreams", value: []any{
				object{{key: "destination_name", value: "one"}, {key: "datacenter", value: "dc2"}, {key: "local_bind_port", value: 10000}, {key: "mesh_gateway", value: mode("mode")}},
				object{{key: "destination_name", value: "two"}, {key: "local_bind_socket_path", value: "/run/two"}, {key: "local_bind_socket_mode", value: "0600"}},
			}},
		}}}}}}}
	return object{{key: "service", value: service}}
}

// spell writes keys in snake_case, CamelCase or lower case.
type spell func(key string) string

var spellings = map[string]spell{
	"snake": func(key string) string { return key },
	"upper": strings.ToUpper,
	"squeezed": func(key string) string {
		return strings.ReplaceAll(key, "_", "")
	},
	"camel": func(key string) string {
		var b strings.Builder
		for part := range strings.SplitSeq(key, "_") {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
		return b.String()
	},
}

func (s spell) of(p pair) string {
	if p.raw {
		return p.key
	}
	return s(p.key)
}

func quote(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// writeHCL writes a value as HCL; blocks decides whether objects are blocks or
// assigned.
func writeHCL(b *strings.Builder, value any, s spell, blocks bool) {
	switch value := value.(type) {
	case object:
		b.WriteString("{\n")
		writeHCLBody(b, value, s, blocks)
		b.WriteString("}")
	case []any:
		b.WriteString("[")
		for _, item := range value {
			writeHCL(b, item, s, blocks)
			b.WriteString(",")
		}
		b.WriteString("]")
	case string:
		b.WriteString(quote(value))
	default:
		fmt.Fprint(b, value)
	}
}

func writeHCLBody(b *strings.Builder, o object, s spell, blocks bool) {
	for _, p := range o {
		b.WriteString(quote(s.of(p)))
		if _, nested := p.value.(object); !nested || !blocks {
			b.WriteString(" =")
		}
		b.WriteString(" ")
		writeHCL(b, p.value, s, blocks)
		b.WriteString("\n")
	}
}

// plain is a value for a JSON or YAML encoder. With wrapped, objects stand in
// lists of one, as in YAML made from HCL.
func plain(value any, s spell, wrapped bool) any {
	switch value := value.(type) {
	case object:
		out := map[string]any{}
		for _, p := range value {
			// What is opaque has no shape to unwrap to.
			inner := plain(p.value, s, wrapped && p.key != "config" && p.key != "arguments" && !p.raw)
			if _, nested := p.value.(object); nested && wrapped {
				inner = []any{inner}
			}
			out[s.of(p)] = inner
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, item := range value {
			out[i] = plain(item, s, wrapped)
		}
		return out
	}
	return value
}

// One entry is one value, in whatever format and spelling it is written.
func TestFormatsAndSpellingsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := drawEntry(t)
		texts := map[string]string{}
		for name, s := range spellings {
			for _, blocks := range []bool{true, false} {
				var b strings.Builder
				writeHCLBody(&b, entry, s, blocks)
				texts[fmt.Sprintf("%s-%v.hcl", name, blocks)] = b.String()
			}
			for _, wrapped := range []bool{true, false} {
				asJSON, err := json.MarshalIndent(plain(entry, s, wrapped), "", " ")
				if err != nil {
					t.Fatal(err)
				}
				texts[fmt.Sprintf("%s-%v.json", name, wrapped)] = string(asJSON)
				asYAML, err := yaml.Marshal(plain(entry, s, wrapped))
				if err != nil {
					t.Fatal(err)
				}
				texts[fmt.Sprintf("%s-%v.yaml", name, wrapped)] = string(asYAML)
			}
		}
		want := ""
		for name, text := range texts {
			catalog := definition.Parse([]definition.File{{Name: name, Data: []byte(text)}}, datacenter)
			if len(catalog.Problems) > 0 {
				t.Fatalf("%s has problems:\n%s\n%s", name, problems(catalog), text)
			}
			checkRules(t, catalog)
			for i := range catalog.Values {
				catalog.Values[i].Source.Line = 0
			}
			got := model(catalog)
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("%s reads as\n%s\nanother spelling as\n%s\n%s", name, got, want, text)
			}
		}
	})
}

// The order in which files are given has no meaning, and parsing twice gives the
// same.
func TestOrderOfFilesHasNoMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var files []definition.File
		for i := range rapid.IntRange(2, 5).Draw(t, "files") {
			var b strings.Builder
			writeHCLBody(&b, drawEntry(t), spellings["snake"], true)
			files = append(files, definition.File{Name: fmt.Sprintf("%d.hcl", i), Data: []byte(b.String())})
		}
		first := definition.Parse(files, datacenter)
		second := definition.Parse(rapid.Permutation(files).Draw(t, "order"), datacenter)
		checkRules(t, first)
		if a, b := model(first)+problems(first), model(second)+problems(second); a != b {
			t.Fatalf("in one order\n%s\nin another\n%s", a, b)
		}
	})
}
