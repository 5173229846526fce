package definition_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// rule is a bad file. The line that is wrong ends in the comment "#!", and the
// file has no other error.
type rule struct {
	name, file, text string
	// key and problem are parts of what is reported.
	key, problem string
}

const proxyHead = `service {
  name = "web-sidecar-proxy"
  kind = "connect-proxy"
  port = 20000
  proxy {
    destination_service_name = "web"
`

const upstreamHead = proxyHead + `    upstreams {
      destination_name = "api"
`

var serviceRules = []rule{
	{"unknown key", "a.hcl", "service {\n  name = \"web\"\n  prot = 80 #!\n}", "service.prot", `unknown key "prot"`},
	{"underscores in odd places", "a.hcl", "service {\n  name = \"web\"\n  socketpath = \"/x\"\n  address = \"1.2.3.4\"\n  enable_tagoverride = true #!\n}", "enable_tagoverride", "unknown key"},
	{"key twice", "a.hcl", "service {\n  name = \"web\"\n  name = \"api\" #!\n}", "service.name", `key "name" stands twice, first on line 2`},
	{"key twice in two spellings", "a.yaml", "service:\n  name: web\n  socket_path: /a\n  SocketPath: /b #!\n", "service.SocketPath", "stands twice"},
	{"key twice in opaque config", "a.yaml", "service:\n  name: p\n  kind: connect-proxy\n  port: 1\n  proxy:\n    destination_service_name: web\n    config:\n      a: 1\n      b: {c: 1}\n      a: 2 #!\n", "config.a", "stands twice"},
	{"block written twice where one belongs", "a.hcl", "service {\n  name = \"web\"\n  connect { }\n  connect { } #!\n}", "service.connect", "2 values stand where one belongs"},
	{"label twice", "a.hcl", "service {\n  name = \"web\"\n  tagged_addresses \"wan\" { address = \"10.0.0.1\" }\n  tagged_addresses \"wan\" { address = \"10.0.0.2\" } #!\n}", "tagged_addresses.wan", "stands twice"},
	{"no name", "a.hcl", "service { #!\n  port = 80\n}", "service", "a name must not be empty"},
	{"wildcard name", "a.hcl", "service {\n  name = \"*\" #!\n}", "service.name", "a wildcard is not a name"},
	{"name with control character", "a.hcl", "service {\n  name = \"a\\nb\" #!\n}", "service.name", "control characters"},
	{"name too long", "a.hcl", "service {\n  name = \"" + strings.Repeat("a", 513) + "\" #!\n}", "service.name", "at most 512 bytes"},
	{"unknown kind", "a.hcl", "service {\n  name = \"web\"\n  kind = \"conect-proxy\" #!\n}", "service.kind", `Invalid service kind: "conect-proxy"`},
	{"port too high", "a.hcl", "service {\n  name = \"web\"\n  port = 65536 #!\n}", "service.port", "port 65536 is out of range"},
	{"negative port", "a.yaml", "service:\n  name: web\n  port: -1 #!\n", "service.port", "port -1 is out of range"},
	{"port with fraction", "a.yaml", "service:\n  name: web\n  port: 80.5 #!\n", "service.port", "a whole number belongs here"},
	{"port as list", "a.yaml", "service:\n  name: web\n  port: [80] #!\n", "service.port", "a whole number belongs here"},
	{"text as object", "a.yaml", "service:\n  name: {a: b} #!\n", "service.name", "a text belongs here, not an object"},
	{"object as text", "a.hcl", "service {\n  name = \"web\"\n  proxy = \"yes\" #!\n}", "service.proxy", "an object belongs here, not a text"},
	{"service as text", "a.yaml", "service: web #!\n", "service", "a service definition belongs here, not a text"},
	{"number that text would not keep", "a.hcl", "service {\n  name = \"web\"\n  meta { build = 0x10 } #!\n}", "meta.build", "the number 0x10 would be read as 16"},
	{"flag that is neither", "a.hcl", "service {\n  name = \"web\"\n  enable_tag_override = \"yes\" #!\n}", "enable_tag_override", "true or false belongs here"},
	{"every interface", "a.hcl", "service {\n  name = \"web\"\n  address = \"0.0.0.0\" #!\n}", "service.address", "every interface"},
	{"address with port", "a.hcl", "service {\n  name = \"web\"\n  address = \"10.0.0.1:80\" #!\n}", "service.address", "neither an IP address nor a host name"},
	{"tagged address without address", "a.hcl", "service {\n  name = \"web\"\n  tagged_addresses {\n    wan { port = 1 } #!\n  }\n}", "tagged_addresses.wan", "a tagged address needs an address"},
	{"port and socket", "a.hcl", "service {\n  name = \"web\"\n  port = 1\n  socket_path = \"/x\" #!\n}", "service.socket_path", "on a port or on a socket"},
	{"weight zero", "a.hcl", "service {\n  name = \"web\"\n  weights { passing = 0 } #!\n}", "weights.passing", "weight 0 is out of range"},
	{"check with unknown state", "a.hcl", "service {\n  name = \"web\"\n  check { status = \"maintenance\" } #!\n}", "service.check.status", "Invalid check status"},
	{"check with unknown key", "a.hcl", "service {\n  name = \"web\"\n  check { htp = \"http://a\" } #!\n}", "service.check.htp", "unknown key"},
	{"two checks of one ID", "a.hcl", "service {\n  name = \"web\"\n  checks = [{ id = \"a\" }, { id = \"a\" }] #!\n}", "service.checks", `check ID "a" stands twice`},
	{"native proxy", "a.hcl", proxyHead + "  }\n  connect { native = true } #!\n}", "connect.native", "cannot be Connect-native"},
	{"proxy without port", "a.hcl", "service { #!\n  name = \"p\"\n  kind = \"connect-proxy\"\n  proxy { destination_service_name = \"web\" }\n}", "service", "a proxy must have a port"},
	{"proxy without destination", "a.hcl", "service {\n  name = \"p\"\n  kind = \"connect-proxy\"\n  port = 1\n  proxy { } #!\n}", "service.proxy", "must name the service that it stands for"},
	{"proxy of a wildcard", "a.hcl", "service {\n  name = \"p\"\n  kind = \"connect-proxy\"\n  port = 1\n  proxy {\n    destination_service_name = \"*\" #!\n  }\n}", "destination_service_name", "not for a wildcard"},
	{"upstreams of a plain service", "a.hcl", "service {\n  name = \"web\"\n  proxy {\n    upstreams { #!\n      destination_name = \"a\"\n      local_bind_port = 1\n    }\n  }\n}", "proxy.upstreams", "only a proxy has upstreams"},
	{"bad instance mode", "a.hcl", proxyHead + "    mesh_gateway {\n      mode = \"bogus\" #!\n    }\n  }\n}", "proxy.mesh_gateway.mode", `Invalid Mesh Gateway Mode: "bogus"`},
	{"mode in capitals", "a.hcl", proxyHead + "    mesh_gateway { mode = \"Local\" } #!\n  }\n}", "proxy.mesh_gateway.mode", `Invalid Mesh Gateway Mode: "Local"`},
	{"mode that is no object", "a.hcl", proxyHead + "    mesh_gateway = \"local\" #!\n  }\n}", "proxy.mesh_gateway", "an object belongs here"},
	{"bad proxy mode", "a.hcl", proxyHead + "    mode = \"tproxy\" #!\n  }\n}", "proxy.mode", `Invalid proxy mode: "tproxy"`},
	{"expose path without slash", "a.hcl", proxyHead + "    expose { paths { path = \"x\", listener_port = 1, local_path_port = 2 } } #!\n  }\n}", "expose.paths", "does not begin with /"},
	{"expose path without port", "a.hcl", proxyHead + "    expose { paths { path = \"/x\", listener_port = 1 } } #!\n  }\n}", "expose.paths", "the port is missing"},
	{"access logs to nowhere", "a.hcl", proxyHead + "    access_logs { type = \"file\" } #!\n  }\n}", "access_logs", "need a path"},
	{"upstream without destination_name", "a.hcl", proxyHead + "    upstreams { #!\n      local_bind_port = 1\n    }\n  }\n}", "upstreams", "an upstream must have a destination_name"},
	{"upstream to a wildcard", "a.hcl", proxyHead + "    upstreams {\n      destination_name = \"*\" #!\n      local_bind_port = 1\n    }\n  }\n}", "destination_name", "a wildcard is not a name"},
	{"upstream without bind", "a.hcl", proxyHead + "    upstreams { #!\n      destination_name = \"a\"\n    }\n  }\n}", "upstreams", "must have local_bind_port or local_bind_socket_path"},
	{"upstream with both binds", "a.hcl", upstreamHead + "      local_bind_port = 1\n      local_bind_socket_path = \"/x\" #!\n    }\n  }\n}", "local_bind_socket_path", "on a port or on a socket"},
	{"upstream bound to a name", "a.hcl", upstreamHead + "      local_bind_port = 1\n      local_bind_address = \"localhost\" #!\n    }\n  }\n}", "local_bind_address", "is not an IP address"},
	{"upstream port out of range", "a.hcl", upstreamHead + "      local_bind_port = 65536 #!\n    }\n  }\n}", "local_bind_port", "port 65536 is out of range"},
	{"socket mode not octal", "a.hcl", upstreamHead + "      local_bind_socket_path = \"/x\"\n      local_bind_socket_mode = \"0999\" #!\n    }\n  }\n}", "local_bind_socket_mode", "is not an octal file mode"},
	{"socket mode as number", "a.hcl", upstreamHead + "      local_bind_socket_path = \"/x\"\n      local_bind_socket_mode = 0600 #!\n    }\n  }\n}", "local_bind_socket_mode", "the number 0600 would be read as 384"},
	{"socket mode without socket", "a.hcl", upstreamHead + "      local_bind_port = 1\n      local_bind_socket_mode = \"0600\" #!\n    }\n  }\n}", "local_bind_socket_mode", "needs local_bind_socket_path"},
	{"upstream to peer and datacenter", "a.hcl", upstreamHead + "      local_bind_port = 1\n      datacenter = \"dc2\"\n      destination_peer = \"p\" #!\n    }\n  }\n}", "destination_peer", "to a peer or to a datacenter"},
	{"upstream to a datacenter and a partition", "a.hcl", upstreamHead + "      local_bind_port = 1\n      destination_partition = \"p\"\n      datacenter = \"dc2\" #!\n    }\n  }\n}", "datacenter", "only possible in the default partition"},
	{"unknown destination type", "a.hcl", upstreamHead + "      local_bind_port = 1\n      destination_type = \"query\" #!\n    }\n  }\n}", "destination_type", `Invalid destination type: "query"`},
	{"bad upstream mode", "a.yaml", "service:\n- name: p\n  kind: connect-proxy\n  port: 1\n  proxy:\n  - destination_service_name: web\n    upstreams:\n    - destination_name: api\n      local_bind_port: 2\n      mesh_gateway:\n      - mode: LOCAL #!\n", "upstreams[0].mesh_gateway.mode", `Invalid Mesh Gateway Mode: "LOCAL"`},
	{"two upstreams on one port", "a.hcl", upstreamHead + "      local_bind_port = 1\n    }\n    upstreams {\n      destination_name = \"db\"\n      local_bind_address = \"127.0.0.1\"\n      local_bind_port = 1 #!\n    }\n  }\n}", "upstreams[1].local_bind_port", "upstreams[0] already has the bind 127.0.0.1:1"},
	{"two upstreams on one socket", "a.hcl", upstreamHead + "      local_bind_socket_path = \"/x\"\n    }\n    upstreams {\n      destination_name = \"db\"\n      local_bind_socket_path = \"/x\" #!\n    }\n  }\n}", "local_bind_socket_path", "already has the bind /x"},
	{"two upstreams to one destination", "a.hcl", upstreamHead + "      local_bind_port = 1\n    }\n    upstreams {\n      destination_name = \"API\" #!\n      local_bind_port = 2\n    }\n  }\n}", "upstreams[1].destination_name", "already has the destination api"},
	{"mesh gateway without port", "a.hcl", "service { #!\n  name = \"gw\"\n  kind = \"mesh-gateway\"\n}", "service", "a mesh-gateway must have a port"},
	{"mesh gateway with upstreams", "a.hcl", "service {\n  name = \"gw\"\n  kind = \"mesh-gateway\"\n  port = 1\n  proxy {\n    upstreams { #!\n      destination_name = \"a\"\n      local_bind_port = 2\n    }\n  }\n}", "proxy.upstreams", "must not have proxy.upstreams"},
	{"mesh gateway with destination", "a.hcl", "service {\n  name = \"gw\"\n  kind = \"mesh-gateway\"\n  port = 1\n  proxy {\n    destination_service_name = \"a\" #!\n  }\n}", "destination_service_name", "must not have proxy.destination_service_name"},
	{"mesh gateway with local service", "a.hcl", "service {\n  name = \"gw\"\n  kind = \"mesh-gateway\"\n  port = 1\n  proxy {\n    local_service_port = 8 #!\n  }\n}", "local_service_port", "must not have proxy.local_service_port"},
	{"mesh gateway with sidecar", "a.hcl", "service {\n  name = \"gw\"\n  kind = \"mesh-gateway\"\n  port = 1\n  connect {\n    sidecar_service { } #!\n  }\n}", "sidecar_service", "a mesh-gateway has no sidecar"},
	{"sidecar with ID", "a.hcl", "service {\n  name = \"web\"\n  connect {\n    sidecar_service {\n      id = \"x\" #!\n    }\n  }\n}", "sidecar_service.id", "-sidecar-proxy"},
	{"sidecar of a sidecar", "a.hcl", "service {\n  name = \"web\"\n  connect {\n    sidecar_service {\n      connect { sidecar_service { } } #!\n    }\n  }\n}", "sidecar_service.connect", "a sidecar has no sidecar"},
	{"sidecar of another kind", "a.hcl", "service {\n  name = \"web\"\n  connect {\n    sidecar_service {\n      kind = \"mesh-gateway\" #!\n    }\n  }\n}", "sidecar_service.kind", "a sidecar is a connect-proxy"},
	{"sidecar's upstream without bind", "a.hcl", "service {\n  name = \"web\"\n  connect {\n    sidecar_service {\n      proxy {\n        upstreams = [{ destination_name = \"a\" }] #!\n      }\n    }\n  }\n}", "sidecar_service.proxy.upstreams[0]", "must have local_bind_port"},
	{"no port left for a sidecar", "a.hcl", "ports { sidecar_min_port = 21000, sidecar_max_port = 21000 }\nservice {\n  name = \"a\"\n  port = 21000\n  connect {\n    sidecar_service { } #!\n  }\n}", "sidecar_service", "no port from 21000 to 21000 is free"},
	{"check twice", "a.hcl", "service {\n  name = \"web\"\n  check {\n    id = \"a\"\n  }\n  checks = [\n    { id = \"b\" },\n    { id = \"a\" }, #!\n  ]\n}", "service.checks[1]", `check ID "a" stands twice`},
	{"check of a sidecar twice", "a.yaml", "service:\n  name: web\n  connect:\n    sidecar_service:\n      checks:\n      - id: a\n      - id: a #!\n", "sidecar_service.checks[1]", `check ID "a" stands twice`},
	{"check beside the service twice", "a.yaml", "service: {name: web, check: {id: a}}\nchecks:\n- {id: a, service_id: web} #!\n", "checks[0]", `check ID "a" stands twice`},
	{"instance twice", "a.hcl", "service {\n  name = \"web\"\n}\nservice { #!\n  name = \"other\"\n  id = \"web\"\n}", "service[1]", "instance/dc1/web is already defined in a.hcl:1"},
	{"instance twice but for case", "a.hcl", "service {\n  name = \"web\"\n}\nservice { #!\n  name = \"Web\"\n}", "service[1]", "names must differ by more than case"},
	{"too many pairs of meta", "a.hcl", "service {\n  name = \"web\"\n  meta { #!\n" + numbered("    k%d = \"v\"\n", 65) + "  }\n}", "service.meta", "65 pairs are more than 64"},
	{"long meta value", "a.hcl", "service {\n  name = \"web\"\n  meta {\n    a = \"" + strings.Repeat("x", 513) + "\" #!\n  }\n}", "service.meta.a", "longer than 512 bytes"},
}

var agentRules = []rule{
	{"datacenter of another directory", "a.hcl", "datacenter = \"dc9\" #!\n", "datacenter", `this is the directory of datacenter "dc1", not of "dc9"`},
	{"unknown agent key", "a.hcl", "advertise_adr = \"10.0.0.1\" #!\n", "advertise_adr", "unknown key"},
	{"address that is a template", "a.hcl", "advertise_addr = \"{{ GetPrivateIP }}\" #!\n", "advertise_addr", "is not an IP address"},
	{"address of every interface", "a.hcl", "advertise_addr_wan = \"::\" #!\n", "advertise_addr_wan", "every interface"},
	{"node's check twice", "a.yaml", "node_name: n\nchecks:\n- id: a\n- id: a #!\n", "checks[1]", `check ID "a" stands twice`},
	{"node's meta", "a.hcl", "node_name = \"n\"\nservice {\n  name = \"web\"\n  meta { a = \"b\" }\n}\nnode_meta {\n  a = \"" + strings.Repeat("x", 513) + "\" #!\n}\n", "node_meta.a", "longer than 512 bytes"},
	{"policy that is neither", "a.hcl", "default_intention_policy = \"Allow\" #!\n", "default_intention_policy", "Invalid policy"},
	{"node without name below", "sub/a.hcl", "advertise_addr = \"10.0.0.1\" #!\n", "advertise_addr", "a node without node_name"},
	{"two node names in one directory", "a.yaml", "node_name: a\n---\nnode_name: b #!\n", "node_name", `node_name is "b" here and "a" in a.yaml:1`},
	{"node with a bad check", "a.hcl", "node_name = \"a\"\nchecks = [{ id = \"x\", status = \"down\" }] #!\n", "status", "Invalid check status"},
	{"node with a check without ID", "a.hcl", "node_name = \"a\"\ncheck { ttl = \"5s\" } #!\n", "check", "a name must not be empty"},
	{"check of a service that is not there", "a.hcl", "check {\n  id = \"x\"\n  service_id = \"web\" #!\n}\n", "check.service_id", `no service on node dc1 has the ID "web"`},
	{"text where definitions belong", "a.yaml", "web #!\n", "", "config entries and service definitions belong here, not a text"},
	{"bare definition", "a.yaml", "name: web #!\n", "name", "unknown key"},
}

// check parses the rule's file and demands its problem, at its line, and no
// other error.
func (r rule) check(t *testing.T) {
	t.Helper()
	before, _, found := strings.Cut(r.text, "#!")
	if !found {
		t.Fatal("the file marks no line")
	}
	line := 1 + strings.Count(before, "\n")
	catalog := definition.Parse([]definition.File{{Name: r.file, Data: []byte(r.text)}}, datacenter)
	checkRules(t, catalog)
	met := false
	for _, p := range catalog.Problems {
		if p.Severity != definition.SeverityError {
			continue
		}
		if p.File == r.file && p.Line == line && strings.Contains(p.Key, r.key) && strings.Contains(p.Problem, r.problem) {
			met = true
			continue
		}
		t.Errorf("another error: %s", p)
	}
	if !met {
		t.Errorf("want an error on line %d at %q: %q, got:\n%s", line, r.key, r.problem, problems(catalog))
	}
}

func TestServiceRules(t *testing.T) {
	for _, r := range serviceRules {
		t.Run(r.name, r.check)
	}
}

func TestAgentRules(t *testing.T) {
	for _, r := range agentRules {
		t.Run(r.name, r.check)
	}
}
