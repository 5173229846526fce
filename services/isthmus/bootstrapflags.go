package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// bootstrapFlags are what a bootstrap is made of beside the proxy.
type bootstrapFlags struct {
	xds, admin                             string
	config                                 bootstrap.Config
	clusters, listeners, statsConfig, file string
}

func (f *bootstrapFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.xds, "xds", "", "addresses of xds nodes, HOST:PORT, several by commas")
	flags.BoolVar(&f.config.PlainText, "xds-plain-text", false, "speak to the xds nodes without TLS, which they allow on loopback only")
	flags.StringVar(&f.admin, "admin-bind", "127.0.0.1:19000", "where Envoy's admin server listens, IP:PORT; empty: nowhere")
	onlyByFlag(cmd, "admin-bind") // Elsewhere it is a role's own.
	flags.StringVar(&f.config.AdminAccessLog, "admin-access-log-path", "/dev/null", "file of the admin server's access log")
	flags.StringVar(&f.statsConfig, "stats-config-json", "", "file with Envoy's stats_config, as JSON; else Consul's tags")
	flags.StringArrayVar(&f.config.Stats.Tags, "stats-tag", nil, "NAME=VALUE to add to every statistic; may be repeated")
	flags.StringVar(&f.config.Stats.FlushInterval, "stats-flush-interval", "", "how often sinks get what changed, like 5s")
	flags.StringVar(&f.config.Stats.Statsd, "statsd-url", "", "udp://IP:PORT to send statistics to")
	flags.StringVar(&f.config.Stats.Dogstatsd, "dogstatsd-url", "", "udp://IP:PORT or unix:///PATH to send statistics with tags to")
	flags.StringVar(&f.config.Stats.Prometheus, "prometheus-bind-addr", "", "IP:PORT to serve /metrics at")
	flags.StringVar(&f.config.Stats.Bind, "stats-bind-addr", "", "IP:PORT to serve /stats at")
	flags.StringVar(&f.clusters, "extra-cluster-json", "", "file with clusters to add, as JSON: one, several by commas, or a list")
	flags.StringVar(&f.listeners, "extra-listener-json", "", "file with listeners to add, likewise")
	flags.StringVar(&f.file, "template", "", "file with a Go template that gives the whole bootstrap; deploy/docs/envoy.md has its fields")
}

// read reads what the flags name. What they leave open is taken from the registration.
func (f *bootstrapFlags) read(a *app, p envoyProxy) (bootstrap.Config, error) {
	c := f.config
	c.ID, c.Node, c.Service, c.Datacenter = p.id, p.node, p.service, p.datacenter
	if err := required("xds", f.xds); err != nil {
		return c, err
	}
	var err error
	if c.Nodes, err = xdsNodes(f.xds); err != nil {
		return c, err
	}
	if f.admin != "" {
		// Consul's users write localhost.
		if c.Admin, err = netip.ParseAddrPort(strings.Replace(f.admin, "localhost:", "127.0.0.1:", 1)); err != nil {
			return c, usageError{fmt.Errorf("--admin-bind %q is not IP:PORT", f.admin)}
		}
	}
	var texts [4]bootstrap.JSON
	for i, from := range []struct{ flag, path string }{
		{"extra-cluster-json", f.clusters}, {"extra-listener-json", f.listeners}, {"stats-config-json", f.statsConfig}, {"template", f.file},
	} {
		if from.path == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Clean(from.path))
		if err != nil {
			return c, usageError{fmt.Errorf("--%s: %w", from.flag, err)}
		}
		texts[i] = bootstrap.JSON{From: from.path, Text: string(text)}
	}
	c.Clusters, c.Listeners, c.Stats.Config, c.Template = texts[0], texts[1], texts[2], bootstrap.Template(texts[3])
	if err := byRegistration(&c, p.config); err != nil {
		return c, hint{err, "correct the key in the registration, in proxy-defaults or in service-defaults"}
	}
	c.Stats.Statsd = os.Expand(c.Stats.Statsd, a.environment)
	c.Stats.Dogstatsd = os.Expand(c.Stats.Dogstatsd, a.environment)
	return c, nil
}

// byRegistration takes what the flags leave open from a registration's keys, which are
// those of Consul's command (Consul command/connect/envoy/bootstrap_config.go).
func byRegistration(c *bootstrap.Config, keys map[string]any) error {
	for key, to := range map[string]*string{
		"envoy_stats_flush_interval": &c.Stats.FlushInterval, "envoy_statsd_url": &c.Stats.Statsd, "envoy_dogstatsd_url": &c.Stats.Dogstatsd,
		"envoy_prometheus_bind_addr": &c.Stats.Prometheus, "envoy_stats_bind_addr": &c.Stats.Bind,
	} {
		text, err := textOf(keys, key)
		if err != nil {
			return err
		}
		if *to == "" {
			*to = text
		}
	}
	template := bootstrap.JSON(c.Template)
	for key, to := range map[string]*bootstrap.JSON{
		"envoy_extra_static_clusters_json": &c.Clusters, "envoy_extra_static_listeners_json": &c.Listeners, "envoy_extra_stats_sinks_json": &c.Stats.Sinks,
		"envoy_stats_config_json": &c.Stats.Config, "envoy_tracing_json": &c.Tracing, "envoy_bootstrap_json_tpl": &template,
	} {
		text, err := textOf(keys, key)
		if err != nil {
			return err
		}
		if to.Text == "" {
			*to = bootstrap.JSON{From: key, Text: text}
		}
	}
	c.Template = bootstrap.Template(template)
	switch tags := keys["envoy_stats_tags"].(type) {
	case nil:
	case []any:
		for _, tag := range tags {
			c.Stats.Tags = append(c.Stats.Tags, fmt.Sprint(tag))
		}
	default:
		return fmt.Errorf("envoy_stats_tags is %v, and should be a list of texts", tags)
	}
	return nil
}

// textOf is a key that has to be a text; empty where it is not there.
func textOf(keys map[string]any, key string) (string, error) {
	switch value := keys[key].(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	default:
		return "", fmt.Errorf("%s is %v, and should be a text", key, value)
	}
}

// xdsNodes reads --xds.
func xdsNodes(text string) ([]bootstrap.HostPort, error) {
	var out []bootstrap.HostPort
	for part := range strings.SplitSeq(text, ",") {
		host, port, err := net.SplitHostPort(strings.TrimSpace(part))
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || n == 0 || host == "" {
			return nil, usageError{fmt.Errorf("--xds: %q is not HOST:PORT", part)}
		}
		out = append(out, bootstrap.HostPort{Host: host, Port: uint16(n)})
	}
	return out, nil
}
