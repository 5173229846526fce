package bootstrap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
)

// Template is a Go text/template of a user's that gives the whole bootstrap; From is its
// file, or the key that it is from. It is given [Fields]. What it gives must be JSON.
type Template struct {
	From, Text string
}

// Fields are what a template is given. Those that the templates of Consul's command
// have too (envoy_bootstrap_json_tpl) have the same names; where Consul's name its agent
// or a token, there is nothing here, and a template that asks for them is an error.
type Fields struct {
	// ProxyID and ProxyCluster are the node's id and cluster; NodeName is empty unless it
	// is named. ProxySourceService is the service.
	ProxyID, ProxyCluster, NodeName, ProxySourceService string
	Namespace, Partition                                string
	// Datacenter and TrustDomain are empty where they are not known.
	Datacenter, TrustDomain string
	// AdminBindAddress and AdminBindPort are empty without an admin server.
	AdminAccessLogPath, AdminBindAddress, AdminBindPort string
	// LocalAgentClusterName is the cluster whom Envoy asks for its resources: that of the
	// xds nodes. It is one of StaticClustersJSON.
	LocalAgentClusterName string
	// StaticClustersJSON are the clusters of the nodes, of the secrets, and the added ones:
	// objects with commas between them, as are the listeners and the sinks.
	StaticClustersJSON, StaticListenersJSON, StatsSinksJSON string
	// StatsConfigJSON and TracingConfigJSON are objects; the second may be empty.
	StatsConfigJSON, TracingConfigJSON, StatsFlushInterval string
	// SDSSocket is the socket of the secrets; empty: none.
	SDSSocket string
	// Nodes are the xds nodes, each with Host and Port.
	Nodes []HostPort
	// Bootstrap is the bootstrap that there is without a template.
	Bootstrap string
}

func (c *Config) fields(d document, text []byte) Fields {
	f := Fields{
		ProxyID: c.ID, ProxyCluster: c.Service, NodeName: c.Node, ProxySourceService: c.Service,
		Namespace: "default", Partition: "default", Datacenter: c.Datacenter, TrustDomain: c.TrustDomain,
		AdminAccessLogPath: c.AdminAccessLog, LocalAgentClusterName: xdsCluster,
		StaticClustersJSON: d.StaticResources.Clusters.joined(), StaticListenersJSON: d.StaticResources.Listeners.joined(),
		StatsSinksJSON: d.StatsSinks.joined(), StatsConfigJSON: string(d.StatsConfig), TracingConfigJSON: string(d.Tracing),
		StatsFlushInterval: d.StatsFlush, SDSSocket: c.SDS, Nodes: c.Nodes, Bootstrap: string(text),
	}
	if c.Admin.IsValid() {
		f.AdminBindAddress, f.AdminBindPort = c.Admin.Addr().String(), fmt.Sprint(c.Admin.Port())
	}
	return f
}

// fill gives the template its fields. The library's errors name the line.
func (t Template) fill(f Fields) ([]byte, error) {
	parsed, err := template.New(t.From).Option("missingkey=error").Parse(t.Text)
	if err != nil {
		return nil, t.wrong(err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, f); err != nil {
		return nil, t.wrong(err)
	}
	given, err := JSON{From: "what " + t.From + " gives", Text: out.String()}.object()
	switch {
	case err != nil:
		return nil, err
	case given == nil:
		return nil, fmt.Errorf("%s: %w: it gives nothing", t.From, ErrTemplate)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, given, "", "  "); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", t.From, ErrTemplate, err)
	}
	pretty.WriteByte('\n')
	return pretty.Bytes(), nil
}

func (t Template) wrong(err error) error {
	place, said, ok := strings.Cut(strings.TrimPrefix(err.Error(), "template: "), ": ")
	if !ok {
		place, said = t.From, place
	}
	return fmt.Errorf("%s: %w: %s", place, ErrTemplate, said)
}
