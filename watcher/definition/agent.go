package definition

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// said is a text that a file says, and where. The zero value was not said.
type said struct {
	text string
	at   spot
}

// agent is what one agent's configuration says about the node of its directory
// and about the datacenter.
type agent struct {
	directory              string
	name, id, address, wan said
	meta                   []*isthmusv1.KeyValue
	checks                 []agentCheck
	locality               *isthmusv1.Locality
	policy, aclPolicy      said
	aclEnabled, centralOff bool
	datacenter, primary    said
	sidecarMin, sidecarMax uint32
	// broken: an error stands in it, so that its node does not come out.
	broken bool
	// at is where it says anything about its node first; no line when it does not.
	at spot
	// places by path, of what the rules on a node can be broken by.
	places map[string]spot
}

// agentCheck is a check outside of a service definition.
type agentCheck struct {
	check *isthmusv1.Check
	at    spot
	// service is the ID of the service that it is of, or empty: the node.
	service said
}

// root decodes one value of a file: a config entry, what an agent would load,
// or a list of these.
func (d *decoder) root(c cursor) {
	switch c.kind {
	case listNode:
		for i := range c.items {
			d.root(c.item(i))
		}
	case objectNode:
		if c.says("kind") {
			d.addEntry(c)
			return
		}
		d.agent(c)
	default:
		d.refuse(c, fmt.Sprintf("config entries and service definitions belong here, not %s", c.kind), `write kind = "…" or service { }`)
	}
}

// says reports whether an object has the key.
func (c cursor) says(key string) bool {
	return slices.ContainsFunc(c.fields, func(f field) bool { return strings.EqualFold(f.key, key) })
}

func (d *decoder) addEntry(c cursor) {
	if repeats := c.repeated("kind"); repeats != nil {
		at := c.field(*repeats, "kind")
		d.refuse(at, "a second config entry begins here, without anything between the two", severalEntries[extension(d.file)])
		return
	}
	if e := d.entry(c); e != nil {
		d.entries = append(d.entries, e)
	}
}

// severalEntries says how a file of each extension holds more than one entry.
var severalEntries = map[string]string{
	".hcl":  "put it into another file, or both into config_entries { bootstrap = [ ] }",
	".json": "put it into another file, or both into a list",
	".yaml": "write --- before it, or put it into another file",
	".yml":  "write --- before it, or put it into another file",
}

// repeated returns the second field of a key, or nil.
func (c cursor) repeated(key string) *field {
	seen := false
	for i, f := range c.fields {
		if strings.EqualFold(f.key, key) {
			if seen {
				return &c.fields[i]
			}
			seen = true
		}
	}
	return nil
}

// agent decodes what an agent would load.
func (d *decoder) agent(c cursor) {
	a, errors := &agent{directory: directoryOf(d.file), places: map[string]spot{}}, d.errors
	services := func(c cursor) {
		for _, item := range c.sequence() {
			if item.kind != objectNode {
				d.refuse(item, fmt.Sprintf("a service definition belongs here, not %s", item.kind), "write keys and values")
				continue
			}
			d.services = append(d.services, d.service(item))
			d.places = a.places
		}
	}
	fields := schema{
		"service": services, "services": services,
		"config_entries": d.nested(schema{"bootstrap": func(c cursor) {
			for _, item := range c.sequence() {
				if item.kind == objectNode {
					d.addEntry(item)
					d.places = a.places
				} else {
					d.refuse(item, fmt.Sprintf("a config entry belongs here, not %s", item.kind), "write keys and values")
				}
			}
		}}),
	}
	maps.Copy(fields, d.nodeKeys(a))
	maps.Copy(fields, d.datacenterKeys(a))
	for _, f := range c.fields {
		name, known := fields.lookup(f.key)
		switch {
		case known:
		case slices.Contains(agentOnly, name):
			fields[name] = func(c cursor) {
				d.warn(c, fmt.Sprintf("%s is a setting of a Consul agent and has no effect here", c.key), "nothing to do, or remove it")
			}
		case slices.Contains(entryOnly, squeeze(name)):
			fields[name] = d.misplaced(`write kind = "…" for a config entry, or service { } around a service`)
		}
	}
	d.places = a.places
	d.object(c, fields)
	a.broken = d.errors > errors
	d.agents = append(d.agents, a)
}

// entryOnly are keys that begin no agent's file: a config entry without its kind.
var entryOnly = []string{
	"name", "meshgateway", "config", "protocol", "upstreamconfig", "redirect", "failover", "subsets", "splits", "routes", "sources",
}

// misplaced refuses a key that is known, but not here.
func (d *decoder) misplaced(fix string) func(cursor) {
	return func(c cursor) {
		d.refuse(c, fmt.Sprintf("unknown key %q", shorten(c.key)), fix)
	}
}

func (d *decoder) nodeKeys(a *agent) schema {
	return schema{
		"node_name": d.ofNode(a, d.say(&a.name)), "node_id": d.ofNode(a, d.say(&a.id)),
		"advertise_addr": d.ofNode(a, d.address(&a.address)), "advertise_addr_wan": d.ofNode(a, d.address(&a.wan)),
		"node_meta": d.ofNode(a, d.pairs(&a.meta)),
		"locality":  d.ofNode(a, part(d, &a.locality, d.locality)),
		"check":     d.agentChecks(a),
		"checks":    d.agentChecks(a),
	}
}

// agentChecks reads checks of the node, and of services named by service_id.
func (d *decoder) agentChecks(a *agent) func(cursor) {
	return func(c cursor) {
		d.checks(c, func(check *isthmusv1.Check, at spot, service said) {
			check.CheckId = cmp.Or(check.CheckId, check.Name)
			check.Name = cmp.Or(check.Name, check.CheckId)
			a.checks = append(a.checks, agentCheck{check, at, service})
			if service.text == "" {
				d.ofNode(a, func(cursor) {})(c)
			}
		})
	}
}

// ofNode remembers that the configuration says something about its node.
func (d *decoder) ofNode(a *agent, read func(cursor)) func(cursor) {
	return func(c cursor) {
		if a.at.line == 0 {
			a.at = spot{d.file, c.line, c.key}
		}
		read(c)
	}
}

func (d *decoder) datacenterKeys(a *agent) schema {
	return schema{
		"datacenter": d.say(&a.datacenter), "primary_datacenter": d.say(&a.primary),
		"default_intention_policy": d.policy(&a.policy),
		"acl":                      d.acl(a),
		"enable_central_service_config": func(c cursor) {
			on := true
			d.flag(&on)(c)
			if a.centralOff = !on; a.centralOff {
				d.warn(c, "central configuration is switched off, and modes of config entries count all the same", "set enable_central_service_config = true")
			}
		},
		"ports": func(c cursor) {
			fields := schema{"sidecar_min_port": d.port(&a.sidecarMin), "sidecar_max_port": d.port(&a.sidecarMax)}
			for _, key := range agentPorts {
				fields[key] = accepted
			}
			d.nested(fields)(c)
		},
	}
}

// acl reads Consul's fallback of the intention policy: where access control is
// enabled, its default policy counts. Everything else in it, tokens above all,
// is not looked at.
func (d *decoder) acl(a *agent) func(cursor) {
	return func(c cursor) {
		fields := schema{"enabled": d.flag(&a.aclEnabled), "default_policy": d.policy(&a.aclPolicy)}
		for _, key := range []string{
			"tokens", "down_policy", "enable_token_persistence", "enable_token_replication", "token_ttl",
			"policy_ttl", "role_ttl", "enable_key_list_policy",
		} {
			fields[key] = accepted
		}
		d.nested(fields)(c)
	}
}

// say remembers a text and its place.
func (d *decoder) say(dst *said) func(cursor) {
	return func(c cursor) {
		d.text(&dst.text)(c)
		dst.at = spot{d.file, c.line, c.key}
	}
}

func (d *decoder) policy(dst *said) func(cursor) {
	return func(c cursor) {
		d.say(dst)(c)
		if t := dst.text; t != "" && t != "allow" && t != "deny" {
			d.refuse(c, fmt.Sprintf("Invalid policy: %q", shorten(t)), `use one of "allow" or "deny"`)
			*dst = said{}
		}
	}
}

// address reads an address that others reach this node by. One that is wrong is
// not kept.
func (d *decoder) address(dst *said) func(cursor) {
	return func(c cursor) {
		d.say(dst)(c)
		if dst.text == "" {
			return
		}
		ip, err := netip.ParseAddr(dst.text)
		switch {
		case err != nil:
			d.refuse(c, fmt.Sprintf("%q is not an IP address", shorten(dst.text)), "write the address itself; templates are not evaluated")
			dst.text = ""
		case ip.IsUnspecified():
			d.refuse(c, fmt.Sprintf("%q is every interface and cannot be dialed", dst.text), "give one address")
			dst.text = ""
		}
	}
}

// directoryOf is where a file lies, "." for the datacenter's own directory.
func directoryOf(file string) string { return path.Dir(path.Clean(file)) }

// agentPorts are ports of an agent that mean nothing here.
var agentPorts = []string{
	"dns", "http", "https", "grpc", "grpc_tls", "server", "serf_lan", "serf_wan", "expose_min_port", "expose_max_port",
}

// agentOnly are settings of an agent that mean nothing here. They are known so
// that an agent's real configuration can be read, and each is said to have no
// effect.
var agentOnly = []string{
	"acl_agent_master_token", "acl_agent_token", "acl_datacenter", "acl_default_policy", "acl_down_policy",
	"acl_replication_token", "acl_token", "acl_ttl", "addresses", "advertise_addr_ipv4", "advertise_addr_ipv6",
	"advertise_addr_wan_ipv4", "advertise_addr_wan_ipv6", "advertise_reconnect_timeout", "alt_domain", "auto_config",
	"auto_encrypt", "auto_reload_config", "autopilot", "bind_addr", "bootstrap", "bootstrap_expect", "ca_file",
	"ca_path", "cache", "cert_file", "check_output_max_size", "check_update_interval", "client_addr", "cloud",
	"connect", "data_dir", "default_query_time", "disable_anonymous_signature", "disable_coordinates",
	"disable_host_node_id", "disable_http_unprintable_char_filter", "disable_keyring_file", "disable_remote_exec",
	"disable_update_check", "discard_check_output", "discovery_max_stale", "dns_config", "domain",
	"enable_acl_replication", "enable_agent_tls_for_checks", "enable_debug", "enable_local_script_checks",
	"enable_script_checks", "enable_syslog", "encrypt", "encrypt_verify_incoming", "encrypt_verify_outgoing",
	"experiments", "gossip_lan", "gossip_wan", "http_config", "key_file", "leave_on_terminate", "license_path",
	"limits", "log_file", "log_json", "log_level", "log_rotate_bytes", "log_rotate_duration", "log_rotate_max_files",
	"log_sublevels", "max_query_time", "non_voting_server", "partition", "peering", "performance", "pid_file",
	"primary_gateways", "primary_gateways_interval", "raft_logstore", "raft_protocol", "raft_snapshot_interval",
	"raft_snapshot_threshold", "raft_trailing_logs", "read_replica", "reconnect_timeout", "reconnect_timeout_wan",
	"recursors", "rejoin_after_leave", "reporting", "request_limits", "retry_interval", "retry_interval_wan",
	"retry_join", "retry_join_wan", "retry_max", "retry_max_wan", "rpc", "segment", "segments", "serf_lan",
	"serf_lan_allowed_cidrs", "serf_wan", "serf_wan_allowed_cidrs", "server", "server_name", "server_rejoin_age_max",
	"session_ttl_min", "skip_leave_on_interrupt", "start_join", "start_join_wan", "syslog_facility", "tagged_addresses",
	"telemetry", "tls", "tls_cipher_suites", "tls_min_version", "tls_prefer_server_cipher_suites",
	"translate_wan_addrs", "ui", "ui_config", "ui_content_path", "ui_dir", "unix_sockets", "use_streaming_backend",
	"verify_incoming", "verify_incoming_https", "verify_incoming_rpc", "verify_outgoing", "verify_server_hostname",
	"watches", "xds",
}
