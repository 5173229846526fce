package devagent

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
)

// Config says what an agent is. The zero value is a server alone in datacenter
// dc1, with its state in memory and Connect on.
type Config struct {
	// Binary is the consul to run. Empty: what [Find] finds.
	Binary string
	// Datacenter is dc1 if empty.
	Datacenter string
	// Node is the agent's name. Empty: the datacenter and "-server" or "-client".
	Node string
	// PrimaryDatacenter has the CA and the ACLs of all; empty for a datacenter
	// that is not federated.
	PrimaryDatacenter string
	// Client makes it a client, which joins the servers named in RetryJoin.
	Client bool
	// BootstrapExpect is how many servers elect the first leader; 0 is 1. More
	// than one need Durable.
	BootstrapExpect int
	// Durable keeps the state in Dir, so that it survives [Agent.Restart]. Else a
	// server has it in memory (consul agent -dev), which also elects faster, and
	// a client forgets it at each start.
	Durable bool
	// RetryJoin and RetryJoinWAN are addresses like [Agent.LAN] and [Agent.WAN].
	RetryJoin, RetryJoinWAN []string
	// Dir has configuration, log and state. Empty: a temporary directory, which
	// [Agent.Close] removes.
	Dir string
	// Address is where the agent listens, at Consul's usual ports. Not valid: a
	// loopback address that nobody uses.
	Address netip.Addr

	// ACL turns ACLs on.
	ACL *ACL
	// CA turns HTTPS on, with a certificate of it that gRPC by TLS has too.
	CA *CA
	// MaxConnsPerClient is limits.http_max_conns_per_client; 0 is Consul's 200.
	MaxConnsPerClient int
	// NoConnect turns Connect off.
	NoConnect bool
	// NoCentralConfig turns enable_central_service_config off.
	NoCentralConfig bool
	// DefaultIntentionPolicy is allow or deny; empty: that of the ACLs.
	DefaultIntentionPolicy string
	// SidecarPorts are the first and last port given to sidecars; 0: Consul's.
	SidecarPorts [2]int
	// LogLevel is info if empty.
	LogLevel string
	// LeaveOnTerminate lets the agent leave the cluster when it is stopped; else
	// it is for the others as if it had failed.
	LeaveOnTerminate bool
	// Extra is more configuration, in HCL or, with a brace first, JSON. It
	// outweighs all the rest.
	Extra string

	// Logger gets a line when an agent starts or ends; nil: nobody does.
	Logger *slog.Logger
}

// ACL is how ACLs are set up. Tokens that are empty are that of the management;
// all of one federation have the same.
type ACL struct {
	// Management is the secret of the token that may do anything, a UUID.
	// [NewACL] makes one.
	Management string
	// Agent is what the agent does its own work with.
	Agent string
	// Replication is what a secondary datacenter copies tokens with.
	Replication string
	// DefaultPolicy is deny if empty.
	DefaultPolicy string
}

// NewACL returns default deny with a random management token.
func NewACL() *ACL { return &ACL{Management: newUUID()} }

// newUUID is a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // Never fails, says crypto/rand.
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// complete returns the configuration with its defaults.
func (c Config) complete() (Config, error) {
	role := "-server"
	if c.Client {
		role = "-client"
	}
	c.Datacenter = cmp.Or(c.Datacenter, "dc1")
	c.Node = cmp.Or(c.Node, c.Datacenter+role)
	c.BootstrapExpect = cmp.Or(c.BootstrapExpect, 1)
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	switch {
	case c.Client && len(c.RetryJoin) == 0:
		return c, errors.New("a client needs servers to join")
	case c.Client && len(c.RetryJoinWAN) > 0:
		return c, errors.New("a client joins no other datacenter")
	case c.BootstrapExpect > 1 && !c.Durable:
		return c, errors.New("several servers need durable state")
	case c.ACL != nil && c.ACL.Management == "":
		return c, errors.New("ACLs need a management token")
	}
	if c.Binary == "" {
		binary, err := Find()
		if err != nil {
			return c, err
		}
		c.Binary = binary
	}
	return c, nil
}

// secondary reports whether another datacenter has the CA and the ACLs.
func (c Config) secondary() bool {
	return c.PrimaryDatacenter != "" && c.PrimaryDatacenter != c.Datacenter
}

// settings is the configuration as Consul reads it. Where Consul has several
// names for a thing, the newest one is used.
func (a *Agent) settings() map[string]any {
	c, at := a.config, a.place
	gossip := map[string]any{
		// News travels as fast as in -dev; but -dev takes an agent for dead that
		// is silent for half a second, which happens on a busy machine.
		"gossip_interval": "100ms", "probe_interval": "1s", "probe_timeout": "500ms", "suspicion_mult": 3,
	}
	ports := map[string]any{
		"http": at.port(portHTTP), "https": -1, "grpc": at.port(portGRPC), "grpc_tls": at.port(portGRPCTLS), "dns": -1,
		"serf_lan": at.port(portLAN), "serf_wan": at.port(portWAN), "server": at.port(portServer),
	}
	settings := map[string]any{
		"datacenter": c.Datacenter, "node_name": c.Node, "server": !c.Client,
		// The same after a restart in memory: Consul refuses a node's name to
		// another id for as long as the one before seems alive.
		"node_id":   a.nodeID,
		"bind_addr": at.address.String(), "client_addr": at.address.String(), "advertise_addr": at.address.String(),
		"ports":                         ports,
		"log_level":                     c.LogLevel,
		"disable_update_check":          true,
		"connect":                       map[string]any{"enabled": !c.NoConnect},
		"enable_central_service_config": !c.NoCentralConfig,
		"performance":                   map[string]any{"raft_multiplier": 1, "leave_drain_time": "100ms"},
		"gossip_lan":                    gossip,
		"gossip_wan":                    gossip,
		"retry_join":                    c.RetryJoin, "retry_interval": joinEvery,
		"leave_on_terminate": c.LeaveOnTerminate,
	}
	if !c.Client {
		settings["retry_join_wan"], settings["retry_interval_wan"] = c.RetryJoinWAN, joinEvery
	}
	if c.PrimaryDatacenter != "" {
		settings["primary_datacenter"] = c.PrimaryDatacenter
	}
	if c.Durable || c.Client {
		settings["data_dir"] = a.path(dirData)
	}
	if c.Durable && !c.Client {
		settings["bootstrap_expect"] = c.BootstrapExpect
	}
	if c.CA != nil {
		ports["https"] = at.port(portHTTPS)
		files := map[string]any{"ca_file": a.path(fileCA), "cert_file": a.path(fileCertificate), "key_file": a.path(fileKey)}
		settings["tls"] = map[string]any{"https": files, "grpc": files}
	}
	if c.MaxConnsPerClient != 0 {
		settings["limits"] = map[string]any{"http_max_conns_per_client": c.MaxConnsPerClient}
	}
	if c.DefaultIntentionPolicy != "" {
		settings["default_intention_policy"] = c.DefaultIntentionPolicy
	}
	if c.SidecarPorts != [2]int{} {
		ports["sidecar_min_port"], ports["sidecar_max_port"] = c.SidecarPorts[0], c.SidecarPorts[1]
	}
	if c.ACL != nil {
		settings["acl"] = c.aclSettings()
	}
	return settings
}

// joinEvery is how soon an agent tries to join again.
const joinEvery = "200ms"

func (c Config) aclSettings() map[string]any {
	tokens := map[string]any{"agent": cmp.Or(c.ACL.Agent, c.ACL.Management)}
	settings := map[string]any{"enabled": true, "default_policy": cmp.Or(c.ACL.DefaultPolicy, "deny"), "tokens": tokens}
	switch {
	case c.Client:
	case c.secondary():
		settings["enable_token_replication"] = true
		tokens["replication"] = cmp.Or(c.ACL.Replication, c.ACL.Management)
	default:
		tokens["initial_management"] = c.ACL.Management
	}
	return settings
}
