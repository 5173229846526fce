package check

// Code names a check. Codes are never reused for something else.
type Code string

// The codes, in the order of [Codes].
const (
	Agent            Code = "AGENT"
	Version          Code = "VERSION"
	Connect          Code = "CONNECT"
	DatacenterName   Code = "DATACENTER_NAME"
	WANJoined        Code = "WAN_JOINED"
	Primary          Code = "PRIMARY_DATACENTER"
	TrustDomain      Code = "TRUST_DOMAIN"
	GRPC             Code = "GRPC"
	CentralConfig    Code = "CENTRAL_CONFIG"
	IntentionDefault Code = "INTENTION_DEFAULT"
	Clock            Code = "CLOCK"

	ACLToken          Code = "ACL_TOKEN"
	ACLNodeRead       Code = "ACL_NODE_READ"
	ACLServiceRead    Code = "ACL_SERVICE_READ"
	ACLIntentionsRead Code = "ACL_INTENTIONS_READ"
	ACLAgentRead      Code = "ACL_AGENT_READ"
	ACLMeshRead       Code = "ACL_MESH_READ"
	ACLServiceWrite   Code = "ACL_SERVICE_WRITE"

	Catalog        Code = "CATALOG"
	Gateways       Code = "GATEWAYS"
	GatewayHealth  Code = "GATEWAY_HEALTH"
	GatewayReach   Code = "GATEWAY_REACH"
	GatewayNames   Code = "GATEWAY_NAMES"
	ServiceReach   Code = "SERVICE_REACH"
	ModeInvalid    Code = "MODE_INVALID"
	ModeHidden     Code = "MODE_HIDDEN"
	ModePending    Code = "MODE_PENDING_AGENT"
	StickyDefaults Code = "STICKY_DEFAULTS"
	ServiceCase    Code = "SERVICE_CASE"
	DatacenterCase Code = "DATACENTER_CASE"

	Bus           Code = "BUS"
	Watcher       Code = "WATCHER"
	WatcherLag    Code = "WATCHER_LAG"
	Resolver      Code = "RESOLVER"
	ResolverLag   Code = "RESOLVER_LAG"
	Mirror        Code = "MIRROR"
	GatewayReport Code = "GATEWAY_REPORT"
	ProxyReport   Code = "PROXY_REPORT"
)

// Explanation is what a code means. deploy/docs/checks.md is this table.
type Explanation struct {
	Code Code
	// Means is what is so when the check passes, Proven how that is found out, and
	// Fix what to do when it is not so.
	Means, Proven, Fix string
}

// Codes are all codes, in the order in which findings are shown.
func Codes() []Explanation { return codes }

var codes = []Explanation{
	{Agent, "a Consul agent of the datacenter answers", "`agent/self`, or `agent/version` where that is denied", "start a Consul agent, or name one that runs with `--consul`"},
	{Version, "the agent and all servers run Consul 1.6.0 or newer", "`agent/self`, `agent/version`, the build tags of `agent/members` and `agent/members?wan=1`", "upgrade what is older"},
	{Connect, "Connect is enabled, and in effect", "`connect/ca/roots` answers with a trust domain; a server's own `connect.enabled`", "set `connect { enabled = true }` on every server"},
	{DatacenterName, "the datacenter's name is its own", "two agents of one name have servers in common; every server of that name in the WAN pool is in the LAN pool; the agent is of the datacenter that `--consul` says", "give each datacenter a name of its own (`datacenter`), which takes new servers"},
	{WANJoined, "the datacenter sees the others, and is answered by them", "`catalog/datacenters` lists the other, `agent/members?wan=1` has a living server of it, `catalog/nodes?dc=` answers", "join the servers (`retry_join_wan`), and open 8302 TCP and UDP and 8300 TCP between them"},
	{Primary, "all datacenters name the same primary", "`agent/self`, `PrimaryDatacenter`", "set the same `primary_datacenter` on every agent"},
	{TrustDomain, "all datacenters have one trust domain", "`connect/ca/roots` of each", "let every secondary follow the primary: the same `primary_datacenter`, WAN joined, and with access control a replication token"},
	{GRPC, "the agent's gRPC port is open, which only Consul's own xDS needs", "`agent/self`, `GRPCPort` and `GRPCTLSPort`; closed is a failure only where the log (`--nats`) tells that Consul's own Envoys run on that agent", "set `ports { grpc = 8502 }` if Envoys are run by Consul, else leave it"},
	{CentralConfig, "the agent merges config entries into its proxies", "`agent/self`, `EnableCentralServiceConfig`", "set `enable_central_service_config = true` on every agent that has proxies"},
	{IntentionDefault, "what holds where no intention does is known", "`agent/self` (`agent:read`); unreadable, deny is assumed", "give the token `agent:read`"},
	{Clock, "the agent's clock is this machine's, within 2 s", "the date of an answer; more than 2 s for certain is a warning, more than 30 s a failure", "run NTP on both: leaves are valid by the clock"},
	{ACLToken, "with access control on, there is a token that the datacenter knows", "no answer says `ACL not found`; requests carry a token", "give a token that the datacenter knows (`CONSUL_HTTP_TOKEN`, `--consul-token-file`)"},
	{ACLNodeRead, "the token may see all nodes", "`catalog/nodes` is neither filtered nor empty", "add `node_prefix \"\" { policy = \"read\" }`"},
	{ACLServiceRead, "the token may see all services", "`discovery-chain/` of a name that nothing has is not denied", "add `service_prefix \"\" { policy = \"read\" }`"},
	{ACLIntentionsRead, "the token may see all intentions", "`connect/intentions/match` of a name that nothing has is not denied", "add `service_prefix \"\" { policy = \"read\" }`, which implies it, or `intentions = \"read\"` in it"},
	{ACLAgentRead, "the token may ask the agent about itself", "`agent/self` is not denied", "add `agent_prefix \"\" { policy = \"read\" }`"},
	{ACLMeshRead, "the token may see what is exported", "`config/exported-services/default` is not denied", "add `mesh = \"read\"`, or `operator = \"read\"`"},
	{ACLServiceWrite, "the token may get the leaf of the service named by `--service`", "`internal/acl/authorize`, or the leaf of an agent older than 1.9", "add `service \"NAME\" { policy = \"write\" }`"},
	{Catalog, "the datacenter's catalog can be read whole", "`internal/ui/nodes` and `config/KIND`, neither denied nor filtered", "see the findings above, which say what hides it"},
	{Gateways, "the datacenter has a mesh gateway", "an instance of kind `mesh-gateway` in the catalog", "run `isthmus gateway --register` in it; without one, upstreams in mode local or remote have no path"},
	{GatewayHealth, "every mesh gateway has a check, and passes it", "the checks of the instance and its node", "start the gateway, or register it with a check"},
	{GatewayReach, "this machine reaches the gateway, and the gateway passes a name on", "a TLS connection to its WAN address, with the name of a healthy service behind it, meets that service's certificate", "open the way from this machine to that address, or correct the gateway's WAN address"},
	{GatewayNames, "our mesh gateways pass on every name that Consul's own do", "terminating gateways and services exported to peers, whose names only Consul's mesh gateways know, in the catalog", "leave the datacenter's mesh gateways to Consul, or do without what asks for these names: with both kinds of gateway side by side a part of its connections is refused"},
	{ServiceReach, "this machine reaches the services of its own datacenter", "a TLS connection to the LAN address of each healthy proxy meets its service's certificate", "open the way from this machine to that address, or start the proxy"},
	{ModeInvalid, "every mesh gateway mode is none, local or remote", "config entries and proxies in the catalog; what is not one of them wins at its level and means direct", "correct the mode"},
	{ModeHidden, "no mode stands where nothing reads it", "opaque `mesh_gateway` keys in the config of proxies and upstreams; modes that decide for no upstream, since others win everywhere", "move it to `mesh_gateway { mode = … }` beside the config, or take it away"},
	{ModePending, "every agent has merged the present config entries into its proxies", "the mode that a proxy shows against those that are written", "see that the agent runs and reaches its servers, or register the proxy anew"},
	{StickyDefaults, "no inherited mode has stuck in service-defaults, as Consul's servers do to them", "a mode in `UpstreamConfig.Defaults` that is likelier merged than written", "write the service-defaults anew"},
	{ServiceCase, "no two services differ by case alone", "names of instances, of proxies' destinations and upstreams: look-ups ignore case, certificates do not", "spell the service in one way"},
	{DatacenterCase, "datacenters are spelled in one way", "`catalog/datacenters`, and the datacenters of upstreams: look-ups ignore case, names on the wire do not", "spell the datacenter as Consul lists it, in lower case"},
	{Bus, "the log can be asked, and has the datacenter", "the streams `CATALOG_<dc>` and `ROUTES_<dc>`", "see that NATS runs at `--nats`, then start `isthmus watcher` and `isthmus resolver` of the datacenter"},
	{Watcher, "a watcher writes the catalog, and sees its source", "its heartbeat on `CATALOG_<dc>`", "start `isthmus watcher`, and read its log"},
	{WatcherLag, "the log's catalog is what Consul says now", "every value against a fresh reading, for a while", "read the watcher's log: it says what it cannot see"},
	{Resolver, "a resolver writes the routes", "its heartbeat on `ROUTES_<dc>`", "start `isthmus resolver`, and read its log"},
	{ResolverLag, "the routes are those of the newest catalogs", "the basis of `ROUTES_<dc>` against the ends of the catalogs, for a while", "read the resolver's log"},
	{Mirror, "news of the other datacenters arrives", "how long ago each mirror heard of its origin: more than 10 s is a warning, more than 60 s a failure", "see to the link between the datacenters' NATS servers"},
	{GatewayReport, "every mesh gateway reports, and runs the newest routes", "its report in `STATUS_<dc>`, at most 2 minutes old", "start `isthmus gateway`, or see why its Envoy is connected to no xds node; one that Consul configures does not report"},
	{ProxyReport, "no proxy has refused its configuration, or is in trouble", "the reports in `STATUS_<dc>` and the problems that the routes state", "see what `isthmus proxies` and `isthmus explain` say of it"},
}

// orders is the place of each code in the table.
var orders = func() map[Code]int {
	orders := make(map[Code]int, len(codes))
	for i, c := range codes {
		orders[c.Code] = i
	}
	return orders
}()

// order is the place of a code; codes that others hand in come last.
func (c Code) order() int {
	if at, ok := orders[c]; ok {
		return at
	}
	return len(codes)
}

// fix is what to do by the table.
func (c Code) fix() string {
	if at, ok := orders[c]; ok {
		return codes[at].Fix
	}
	return ""
}
