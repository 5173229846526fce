package bootstrap

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Stats say what becomes of an Envoy's statistics. The zero Stats have Consul's tags.
type Stats struct {
	// Config is put in place of Envoy's stats_config, with Consul's tags and all.
	Config JSON
	// Tags are added to every statistic, NAME=VALUE each.
	Tags []string
	// Sinks are added to the two below, as JSON objects.
	Sinks JSON
	// FlushInterval is how often sinks are sent what changed, as Envoy writes durations;
	// empty: Envoy's own.
	FlushInterval string
	// Statsd is udp://HOST:PORT, Dogstatsd that or unix:///PATH; empty: none. A host is an
	// IP address.
	Statsd, Dogstatsd string
	// Prometheus and Bind are where /metrics, for Prometheus, and /stats are served to
	// others, IP:PORT; empty: nowhere.
	Prometheus, Bind string
}

// served reports whether statistics are served beside the admin server.
func (s Stats) served() bool { return s.Prometheus != "" || s.Bind != "" }

// statsConfig takes names apart into Consul's tags (Consul
// command/connect/envoy/bootstrap_config.go lists them), beside Envoy's own.
func (c *Config) statsConfig() (json.RawMessage, error) {
	out := &metricsv3.StatsConfig{UseAllDefaultTags: wrapperspb.Bool(true)}
	for _, text := range c.Stats.Tags {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%w: the tag %q is not NAME=VALUE", ErrSink, text)
		}
		out.StatsTags = append(out.StatsTags, fixedTag(name, value))
	}
	for _, t := range c.takenApart() {
		out.StatsTags = append(out.StatsTags, &metricsv3.TagSpecifier{TagName: t.name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: t.pattern}})
	}
	out.StatsTags = append(out.StatsTags,
		fixedTag("local_cluster", c.Service),
		fixedTag("consul.source.service", c.Service),
		fixedTag("consul.source.namespace", isthmusv1.DefaultName),
		fixedTag("consul.source.partition", isthmusv1.DefaultName),
	)
	if c.Datacenter != "" {
		out.StatsTags = append(out.StatsTags, fixedTag("consul.source.datacenter", c.Datacenter))
	}
	return marshal(out), nil
}

func fixedTag(name, value string) *metricsv3.TagSpecifier {
	return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_FixedValue{FixedValue: value}}
}

// takenApart is a tag and the expression that finds it in a statistic's name: its first
// group is taken out of the name, its second is the value.
type takenApart struct{ name, pattern string }

// takenApart are the tags of the clusters' and the upstreams' names.
//
// A cluster is named [failover-target~N~][HASH~] and then, in the trust domain TD,
// [SUBSET.]SERVICE.NAMESPACE.DATACENTER.internal.TD, with a partition
// [SUBSET.]SERVICE.NAMESPACE.PARTITION.DATACENTER.internal-v1.TD, and at gateways also
// DATACENTER.internal.TD. An upstream's listener is named
// upstream.SERVICE.NAMESPACE.PARTITION.DATACENTER.
func (c *Config) takenApart() []takenApart {
	const label, value = `[^.]+`, `([^.]+)`
	trust := `[^.]+\.consul` // Consul's own trust domains are all of this form.
	if c.TrustDomain != "" {
		trust = regexp.QuoteMeta(c.TrustDomain)
	}
	// In both forms, labels are counted from the end of the name.
	end := label + `\.(?:internal|` + label + `\.internal-v1)\.` + trust + `\.`
	cluster := func(name string) string { return `^cluster\.((?:[^.]*~)?` + name + `)` }
	upstream := func(name string) string { return `^(?:tcp|http)\.upstream\.(` + name + `\.)` }
	return []takenApart{
		{"consul.destination.custom_hash", `^cluster\.((?:failover-target~[0-9]+~)?([0-9a-f]{8})~(?:` + label + `\.)+internal(?:-v1)?\.` + trust + `\.)`},
		{"consul.destination.service_subset", cluster(value + `\.` + label + `\.` + label + `\.` + end)},
		{"consul.destination.service", cluster(`(?:` + label + `\.)?` + value + `\.` + label + `\.` + end)},
		{"consul.destination.namespace", cluster(`(?:` + label + `\.)?` + label + `\.` + value + `\.` + end)},
		{"consul.destination.partition", cluster(`(?:` + label + `\.)?` + label + `\.` + label + `\.` + value + `\.` + label + `\.internal-v1\.` + trust + `\.`)},
		{"consul.destination.datacenter", cluster(`(?:` + label + `\.)*?` + value + `\.internal(?:-v1)?\.` + trust + `\.`)},
		{"consul.destination.routing_type", cluster(`(?:` + label + `\.)+?(internal(?:-v1)?|query)\.` + trust + `\.`)},
		{"consul.destination.trust_domain", cluster(`(?:` + label + `\.)+?(?:internal(?:-v1)?|query)\.(` + trust + `)\.`)},
		{"consul.destination.target", cluster(`((?:` + label + `\.)*?` + label + `)\.internal(?:-v1)?\.` + trust + `\.`)},
		{"consul.destination.full_target", cluster(`((?:` + label + `\.)*?` + label + `\.internal(?:-v1)?\.` + trust + `)\.`)},
		{"consul.upstream.service", upstream(value + `\.` + label + `\.` + label + `\.` + label)},
		{"consul.upstream.namespace", upstream(label + `\.` + value + `\.` + label + `\.` + label)},
		{"consul.upstream.partition", upstream(label + `\.` + label + `\.` + value + `\.` + label)},
		{"consul.upstream.datacenter", upstream(label + `\.` + label + `\.` + label + `\.` + value)},
	}
}
