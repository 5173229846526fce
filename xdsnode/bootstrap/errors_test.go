package bootstrap_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
)

// What a user gives wrongly is named, with its place.
func TestErrors(t *testing.T) {
	type config = bootstrap.Config
	from := func(text string) bootstrap.JSON { return bootstrap.JSON{From: "c.json", Text: text} }
	filled := func(text string) config {
		return config{Template: bootstrap.Template{From: "t.tmpl", Text: text}}
	}
	for name, c := range map[string]struct {
		config config
		is     error
		says   string
	}{
		"who the nodes are":     {config{SDS: "/s", Datacenter: "dc1"}, bootstrap.ErrNoTrust, ""},
		"no admin server":       {config{Stats: bootstrap.Stats{Prometheus: "127.0.0.1:9102"}}, bootstrap.ErrNoAdmin, ""},
		"an address":            {config{Stats: bootstrap.Stats{Bind: "here"}}, bootstrap.ErrSink, `stats "here": it is not an address for statistics, as IP:PORT is`},
		"a sink":                {config{Stats: bootstrap.Stats{Statsd: "unix:///x"}}, bootstrap.ErrSink, `statsd "unix:///x": it is not an address for statistics, as udp://IP:PORT is`},
		"a sink's port":         {config{Stats: bootstrap.Stats{Dogstatsd: "udp://localhost"}}, bootstrap.ErrSink, `dogstatsd "udp://localhost"`},
		"a tag":                 {config{Stats: bootstrap.Stats{Tags: []string{"a"}}}, bootstrap.ErrSink, `the tag "a" is not NAME=VALUE`},
		"JSON":                  {config{Clusters: from("{},\n {\"a\" 1}")}, bootstrap.ErrJSON, "c.json: it is not the JSON that it should be: line 2, column 7 (offset 10): invalid character '1' after object key"},
		"JSON in a list":        {config{Clusters: from("[{}, ?]")}, bootstrap.ErrJSON, "line 1, column 6 (offset 5): invalid character '?'"},
		"JSON that ends":        {config{Tracing: from(`{"a": `)}, bootstrap.ErrJSON, "line 1, column 7 (offset 6): it ends too early"},
		"JSON with more":        {config{Tracing: from(`{} {}`)}, bootstrap.ErrJSON, "line 1, column 4 (offset 3): there is more behind it"},
		"a list with more":      {config{Clusters: from(`{}] {}`)}, bootstrap.ErrJSON, "line 1, column 5 (offset 4): there is more behind it"},
		"no object":             {config{Listeners: from(`{}, 1`)}, bootstrap.ErrJSON, "c.json: it is not the JSON that it should be: its part 2 is not an object"},
		"no object at all":      {config{Tracing: from(`[]`)}, bootstrap.ErrJSON, "it is not an object"},
		"a template":            {filled("{\n{{.ProxyID"), bootstrap.ErrTemplate, "t.tmpl:2: the template is wrong: unclosed action"},
		"a template for Consul": {filled("{\n\"a\": \"{{.Token}}\"}"), bootstrap.ErrTemplate, "t.tmpl:2:8: the template is wrong"},
		"a template of nothing": {filled(" "), bootstrap.ErrTemplate, "t.tmpl: the template is wrong: it gives nothing"},
		"what a template gives": {filled("{\n,}"), bootstrap.ErrJSON, "what t.tmpl gives: it is not the JSON that it should be: line 2, column 1"},
	} {
		c.config.Nodes = []bootstrap.HostPort{{Host: "127.0.0.1", Port: 9510}}
		_, err := bootstrap.Render(c.config)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	wrong := bootstrap.JSON{From: "c.json", Text: "?"}
	_, err := bootstrap.Render(bootstrap.Config{Clusters: wrong, Listeners: wrong})
	if !errors.Is(err, bootstrap.ErrNoNodes) || strings.Count(err.Error(), "c.json") != 2 {
		t.Errorf("all at once: %v", err)
	}
}
