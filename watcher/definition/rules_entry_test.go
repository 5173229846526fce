package definition_test

import (
	"strings"
	"testing"
)

const (
	defaultsHead = "kind = \"service-defaults\"\nname = \"web\"\n"
	resolverHead = "kind = \"service-resolver\"\nname = \"api\"\nsubsets \"v1\" { filter = \"Service.Meta.v == 1\" }\n"
	routerHead   = "kind: service-router\nname: api\nroutes:\n"
	splitterHead = "kind: service-splitter\nname: api\nsplits:\n"
	sourcesHead  = "kind: service-intentions\nname: api\nsources:\n"
)

var entryRules = []rule{
	{"no kind", "a.yaml", "config_entries:\n  bootstrap:\n  - name: web #!\n", "bootstrap[0]", "the entry has no kind"},
	{"unknown kind", "a.hcl", "kind = \"service-default\" #!\nname = \"web\"", "kind", `unknown kind "service-default"`},
	{"kind in capitals", "a.hcl", "kind = \"Mesh\" #!\n", "kind", `unknown kind "Mesh"`},
	{"service outside service", "a.yaml", "kind: mesh-gateway #!\nname: gw\nport: 1\n", "kind", `unknown kind "mesh-gateway"`},
	{"entry beside a service", "a.hcl", "kind = \"mesh\"\nservice { name = \"web\" } #!\n", "service", `unknown key "service"`},
	{"two entries in one file", "a.hcl", "Kind = \"mesh\"\nKind = \"proxy-defaults\" #!\n", "Kind", "a second config entry begins here"},
	{"two entries in one document", "a.yaml", "kind: mesh\nkind: mesh #!\n", "kind", "a second config entry begins here"},
	{"key that is a list", "a.yaml", "? [a, b] #!\n: c\n", "", "a key is a text, not a list"},
	{"key that is an object", "a.yaml", "? {a: b} #!\n: c\n", "", "a key is a text, not an object"},
	{"extension in capitals", "A.HCL", "kind = \"mesh\"\nname = \"x\" #!\n", "name", `is named "mesh"`},
	{"entry twice", "a.yaml", "kind: mesh\n---\nkind: mesh #!\n", "", "config/mesh/mesh is already defined in a.yaml:1"},
	{"entry twice but for case", "a.yaml", "kind: service-defaults\nname: web\n---\nkind: service-defaults #!\nname: WEB\n", "", `as "web": names must differ by more than case`},
	{"meta value as list", "a.yaml", "kind: mesh\nmeta:\n  a: [1] #!\n", "meta.a", "a text belongs here, not a list"},

	{"proxy-defaults of another name", "a.hcl", "kind = \"proxy-defaults\"\nname = \"globl\" #!\n", "name", `is named "global", not "globl"`},
	{"bad global mode", "a.hcl", "Kind = \"proxy-defaults\"\nMeshGateway {\n  Mode = \"remot\" #!\n}", "MeshGateway.Mode", `Invalid Mesh Gateway Mode: "remot"`},
	{"bad opaque global mode", "a.hcl", "Kind = \"proxy-defaults\"\nConfig {\n  mesh_gateway = \"remot\" #!\n}", "Config.mesh_gateway", `Invalid Mesh Gateway Mode: "remot"`},
	{"bad opaque global mode in an object", "a.yaml", "kind: proxy-defaults\nconfig:\n  mesh_gateway:\n    mode: Local #!\n", "config.mesh_gateway.mode", `Invalid Mesh Gateway Mode: "Local"`},
	{"bad opaque global mode in a block", "a.hcl", "kind = \"proxy-defaults\"\nconfig {\n  mesh_gateway {\n    Mode = \"x\" #!\n  }\n}", "config.mesh_gateway", `Invalid Mesh Gateway Mode: "x"`},
	{"bad mutual TLS mode", "a.hcl", "kind = \"proxy-defaults\"\nmutual_tls_mode = \"loose\" #!\n", "mutual_tls_mode", "Invalid mutual TLS mode"},
	{"bad access log type", "a.hcl", "kind = \"proxy-defaults\"\naccess_logs {\n  type = \"syslog\" #!\n}", "access_logs.type", "Invalid access log type"},
	{"path of logs that are no file", "a.hcl", "kind = \"proxy-defaults\"\naccess_logs {\n  path = \"/x\" #!\n}", "access_logs.path", "only for access logs to a file"},
	{"two log formats", "a.hcl", "kind = \"proxy-defaults\"\naccess_logs {\n  json_format = \"{}\"\n  text_format = \"x\" #!\n}", "text_format", "one format"},
	{"bad failover mode", "a.hcl", "kind = \"proxy-defaults\"\nfailover_policy { mode = \"random\" } #!\n", "failover_policy.mode", "Invalid failover mode"},
	{"bad locality mode", "a.hcl", "kind = \"proxy-defaults\"\nprioritize_by_locality { mode = \"always\" } #!\n", "prioritize_by_locality.mode", "Invalid locality mode"},

	{"defaults of a wildcard", "a.hcl", "kind = \"service-defaults\"\nname = \"*\" #!\n", "name", "a wildcard is not a name"},
	{"defaults without name", "a.hcl", "kind = \"service-defaults\" #!\n", "", "a name must not be empty"},
	{"bad mode of defaults", "a.json", "{\n  \"Kind\": \"service-defaults\",\n  \"Name\": \"web\",\n  \"MeshGateway\": {\"Mode\": \"#!\"}\n}", "MeshGateway.Mode", "Invalid Mesh Gateway Mode"},
	{"override without name", "a.hcl", defaultsHead + "upstream_config {\n  overrides = [{ mesh_gateway { mode = \"local\" } }] #!\n}", "overrides[0]", "a name must not be empty"},
	{"override of a wildcard", "a.hcl", defaultsHead + "upstream_config {\n  overrides = [{ name = \"*\" }] #!\n}", "overrides[0].name", "a wildcard is not a name"},
	{"override twice", "a.hcl", defaultsHead + "upstream_config {\n  overrides = [\n    { name = \"api\" },\n    { name = \"API\" }, #!\n  ]\n}", "overrides[1].name", "overrides[0] is already for"},
	{"bad mode of an override", "a.hcl", defaultsHead + "upstream_config {\n  overrides = [{ name = \"api\", mesh_gateway { mode = \"x\" } }] #!\n}", "overrides[0].mesh_gateway.mode", "Invalid Mesh Gateway Mode"},
	{"named upstream defaults", "a.hcl", defaultsHead + "upstream_config {\n  defaults {\n    name = \"api\" #!\n  }\n}", "defaults.name", "have no name"},
	{"bad mode of upstream defaults", "a.hcl", defaultsHead + "upstream_config {\n  defaults {\n    mesh_gateway { mode = \"x\" } #!\n  }\n}", "defaults.mesh_gateway.mode", "Invalid Mesh Gateway Mode"},
	{"percentage over 100", "a.hcl", defaultsHead + "upstream_config {\n  defaults {\n    passive_health_check { max_ejection_percent = 101 } #!\n  }\n}", "max_ejection_percent", "101 is not a percentage"},
	{"negative interval", "a.hcl", defaultsHead + "upstream_config {\n  defaults {\n    passive_health_check { interval = \"-1s\" } #!\n  }\n}", "interval", "-1s is negative"},
	{"negative limit", "a.hcl", defaultsHead + "upstream_config {\n  defaults {\n    limits { max_connections = -1 } #!\n  }\n}", "max_connections", "number -1 is out of range"},
	{"unknown balancing", "a.hcl", defaultsHead + "balance_inbound_connections = \"exact\" #!\n", "balance_inbound_connections", "Invalid balancing"},
	{"destination with upstreams", "a.hcl", defaultsHead + "upstream_config { defaults { protocol = \"tcp\" } }\ndestination { #!\n  addresses = [\"a\"]\n}", "destination", "has no upstreams"},

	{"default subset that is not there", "a.hcl", resolverHead + "default_subset = \"v2\" #!\n", "default_subset", `"v2" is not a subset of api`},
	{"subset that no server name can hold", "a.hcl", "kind = \"service-resolver\"\nname = \"api\"\nsubsets \"V_1\" { } #!\n", "subsets.V_1", "cannot name a subset"},
	{"bad filter", "a.hcl", "kind = \"service-resolver\"\nname = \"api\"\nsubsets \"v1\" {\n  filter = \"Service.Meta.v ==\" #!\n}", "filter", "is not a filter"},
	{"long filter", "a.hcl", "kind = \"service-resolver\"\nname = \"api\"\nsubsets \"v1\" {\n  filter = \"a == " + strings.Repeat("b", 5000) + "\" #!\n}", "filter", "longer than 4096 bytes"},
	{"unknown key of a load balancer", "a.yaml", "kind: service-resolver\nname: api\nload_balancer:\n  polcy: maglev #!\n", "load_balancer.polcy", `unknown key "polcy"`},
	{"unknown policy of a load balancer", "a.json", "{\"Kind\": \"service-resolver\", \"Name\": \"api\", \"LoadBalancer\": [{\n\"Policy\": \"#!\"}]}", "LoadBalancer.Policy", "Invalid policy"},
	{"unknown key of a hash policy", "a.yaml", "kind: service-resolver\nname: api\nload_balancer:\n  policy: maglev\n  hash_policies:\n  - field: header\n    value: x #!\n", "hash_policies[0].value", `unknown key "value"`},
	{"unknown key of rate limits", "a.hcl", defaultsHead + "rate_limits {\n  instance_level { requests = 1 } #!\n}", "rate_limits.instance_level.requests", `unknown key "requests"`},
	{"unknown key of a destination", "a.hcl", defaultsHead + "destination {\n  adresses = [\"a\"] #!\n}", "destination.adresses", `unknown key "adresses"`},
	{"unknown key of an extension", "a.hcl", defaultsHead + "envoy_extensions = [{ name = \"a\" }, { nam = \"b\" }] #!\n", "envoy_extensions[1].nam", `unknown key "nam"`},
	{"redirect to nowhere", "a.hcl", resolverHead + "redirect { } #!\n", "redirect", "leads nowhere"},
	{"redirect and failover", "a.hcl", resolverHead + "failover \"*\" { datacenters = [\"dc2\"] }\nredirect { #!\n  service = \"b\"\n}", "redirect", "redirects or fails over"},
	{"redirect to a subset of nothing", "a.hcl", resolverHead + "redirect {\n  service_subset = \"v1\" #!\n}", "redirect.service_subset", "needs redirect.service"},
	{"redirect to a missing subset", "a.hcl", resolverHead + "redirect {\n  service = \"api\"\n  service_subset = \"v9\" #!\n}", "redirect.service_subset", "is not a subset of api"},
	{"redirect to peer and datacenter", "a.hcl", resolverHead + "redirect {\n  service = \"b\"\n  peer = \"p\"\n  datacenter = \"dc2\" #!\n}", "redirect.datacenter", "cannot stand beside peer"},
	{"redirect across partition and datacenter", "a.hcl", resolverHead + "redirect {\n  service = \"b\"\n  partition = \"p\"\n  datacenter = \"dc2\" #!\n}", "redirect.datacenter", "only possible in the default partition"},
	{"failover to nowhere", "a.hcl", resolverHead + "failover \"*\" { } #!\n", "failover.*", "leads nowhere"},
	{"failover of a missing subset", "a.hcl", resolverHead + "failover \"v9\" { datacenters = [\"dc2\"] } #!\n", "failover.v9", "is not a subset of api"},
	{"failover with targets and more", "a.hcl", resolverHead + "failover \"*\" {\n  datacenters = [\"dc2\"]\n  targets = [{ datacenter = \"dc3\" }] #!\n}", "targets", "cannot stand beside"},
	{"failover to an empty datacenter", "a.hcl", resolverHead + "failover \"*\" { datacenters = [\"\"] } #!\n", "datacenters[0]", "a name must not be empty"},
	{"failover target with partition and datacenter", "a.hcl", resolverHead + "failover \"*\" { targets = [{ partition = \"p\", datacenter = \"dc3\" }] } #!\n", "targets[0].partition", "cannot stand beside datacenter"},
	{"negative connect timeout", "a.hcl", resolverHead + "connect_timeout = \"-5s\" #!\n", "connect_timeout", "-5s is negative"},
	{"timeout without unit", "a.hcl", resolverHead + "request_timeout = \"5\" #!\n", "request_timeout", "is not a duration"},

	{"no splits", "a.yaml", "kind: service-splitter #!\nname: api\n", "", "needs at least one split"},
	{"weights below 100", "a.yaml", "kind: service-splitter\nname: api\nsplits: #!\n- {weight: 50, service: a}\n- {weight: 49.99, service: b}\n", "splits", "add up to 99.99, not 100"},
	{"weight over 100", "a.yaml", splitterHead + "- weight: 100.5 #!\n- weight: 100\n  service: b\n", "splits[0].weight", "weight 100.5 is out of range"},
	{"weight as word", "a.yaml", splitterHead + "- weight: all #!\n- {weight: 100, service: b}\n", "splits[0].weight", "a number belongs here"},
	{"split twice", "a.yaml", splitterHead + "- {weight: 50}\n- {weight: 50, service: api} #!\n", "splits[1]", "splits[0] already leads"},

	{"two ways to match a path", "a.yaml", routerHead + "- match:\n    http: {path_exact: /a, path_prefix: /b} #!\n", "http", "a path is matched in one way"},
	{"path without slash", "a.yaml", routerHead + "- match: {http: {path_prefix: a}} #!\n", "path_prefix", "does not begin with /"},
	{"bad expression", "a.yaml", routerHead + "- match: {http: {path_regex: '(a'}} #!\n", "path_regex", "is not a regular expression"},
	{"header without name", "a.yaml", routerHead + "- match: {http: {header: [{exact: a}]}} #!\n", "header[0]", "the header has no name"},
	{"header matched twice", "a.yaml", routerHead + "- match: {http: {header: [{name: a, exact: a, prefix: b}]}} #!\n", "header[0]", "matched in one way"},
	{"case of a regular expression", "a.yaml", routerHead + "- match: {http: {header: [{name: a, regex: a, ignore_case: true}]}} #!\n", "ignore_case", "has no meaning"},
	{"query parameter not matched", "a.yaml", routerHead + "- match: {http: {query_param: [{name: a}]}} #!\n", "query_param[0]", "matched in one way"},
	{"unknown method", "a.yaml", routerHead + "- match: {http: {methods: [FETCH]}} #!\n", "methods[0]", "Invalid HTTP method"},
	{"method twice", "a.yaml", routerHead + "- match: {http: {methods: [GET, get]}} #!\n", "methods[1]", "stands twice"},
	{"rewrite of nothing", "a.yaml", routerHead + "- destination: {prefix_rewrite: /} #!\n", "prefix_rewrite", "needs a path to rewrite"},
	{"unknown retry condition", "a.yaml", routerHead + "- destination: {retry_on: [sometimes]} #!\n", "retry_on[0]", "Invalid retry condition"},
	{"status that is none", "a.yaml", routerHead + "- destination: {retry_on_status_codes: [99]} #!\n", "retry_on_status_codes[0]", "99 is not an HTTP status"},

	{"no sources", "a.yaml", "kind: service-intentions #!\nname: api\n", "", "at least one source"},
	{"source without action", "a.yaml", sourcesHead + "- name: web #!\n", "sources[0]", "the action is missing"},
	{"action that is neither", "a.yaml", sourcesHead + "- {name: web, action: permit} #!\n", "sources[0].action", "Invalid action"},
	{"source twice", "a.yaml", sourcesHead + "- {name: web, action: allow}\n- {name: Web, action: deny} #!\n", "sources[1].name", "sources[0] is already"},
	{"part of a wildcard", "a.yaml", sourcesHead + "- {name: web*, action: allow} #!\n", "sources[0].name", "a wildcard stands for the whole name"},
	{"exact source in every namespace", "a.yaml", sourcesHead + "- {name: web, namespace: '*', action: allow} #!\n", "sources[0].name", "in every namespace"},
	{"action and permissions", "a.yaml", sourcesHead + "- {name: web, action: allow, permissions: [{action: allow, http: {path_exact: /}}]} #!\n", "sources[0].action", "cannot stand beside permissions"},
	{"permissions of a wildcard", "a.yaml", "kind: service-intentions\nname: '*'\nsources:\n- {name: web, permissions: [{action: allow, http: {path_exact: /}}]} #!\n", "permissions", "need one destination"},
	{"permission that matches nothing", "a.yaml", sourcesHead + "- {name: web, permissions: [{action: allow, http: {}}]} #!\n", "permissions[0]", "must match something"},
	{"source of another type", "a.yaml", sourcesHead + "- {name: web, action: allow, type: k8s} #!\n", "sources[0].type", "the only type"},
	{"source in peer and partition", "a.yaml", sourcesHead + "- {name: web, action: allow, peer: p, partition: q} #!\n", "sources[0].peer", "one partition, peer or sameness group"},
	{"long description", "a.yaml", sourcesHead + "- {name: web, action: allow, description: " + strings.Repeat("x", 513) + "} #!\n", "description", "longer than 512"},

	{"mesh of another name", "a.yaml", "kind: mesh\nname: other #!\n", "name", `is named "mesh", not "other"`},
	{"unknown TLS version", "a.yaml", "kind: mesh\ntls:\n  incoming:\n    tls_min_version: '1.2' #!\n", "tls_min_version", "Invalid TLS version"},
	{"TLS versions in the wrong order", "a.yaml", "kind: mesh\ntls:\n  incoming:\n    tls_min_version: TLSv1_3\n    tls_max_version: TLSv1_2 #!\n", "tls_max_version", "below the lowest version"},
	{"cipher suites of TLS 1.3", "a.yaml", "kind: mesh\ntls:\n  outgoing:\n    tls_min_version: TLSv1_3\n    cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA] #!\n", "cipher_suites", "below TLS 1.3"},
	{"unknown cipher suite", "a.yaml", "kind: mesh\ntls:\n  outgoing:\n    cipher_suites: [RC4] #!\n", "cipher_suites[0]", "Invalid cipher suite"},

	{"unknown action of a mesh", "a.yaml", "kind: mesh\nhttp:\n  incoming:\n    request_normalization:\n      merge_slashes: true\n      headers_with_underscores_action: DROP #!\n", "headers_with_underscores_action", "Invalid action"},
	{"unknown escaping of a mesh", "a.yaml", "Kind: mesh\nHTTP:\n  Incoming:\n    RequestNormalization:\n    - PathWithEscapedSlashesAction: drop #!\n", "PathWithEscapedSlashesAction", "Invalid action"},
	{"export to nobody", "a.yaml", "kind: exported-services\nservices:\n- name: api #!\n", "services[0]", "needs a consumer"},
	{"export to everybody", "a.yaml", "kind: exported-services\nservices:\n- {name: api, consumers: [{partition: '*'}]} #!\n", "consumers[0]", "to a wildcard"},
	{"export to two at once", "a.yaml", "kind: exported-services\nservices:\n- {name: api, consumers: [{partition: p, peer: q}]} #!\n", "consumers[0]", "is one partition, peer or sameness group"},
	{"one service of every namespace", "a.yaml", "kind: exported-services\nservices:\n- {name: api, namespace: '*', consumers: [{partition: p}]} #!\n", "services[0].name", "only every service"},
}

func TestEntryRules(t *testing.T) {
	for _, r := range entryRules {
		t.Run(r.name, r.check)
	}
}
