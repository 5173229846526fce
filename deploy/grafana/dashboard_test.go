package grafana_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// dashboard is what these tests read of one.
type dashboard struct {
	Title, UID string
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Datasource             *source
		}
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  *source
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		RefID, Expr string
		Datasource  *source
	}
	Panels []panel
}

type source struct{ Type, UID string }

// chosen is the data source that the user chooses above the dashboard.
var chosen = source{"prometheus", "${datasource}"}

func read(t *testing.T, path string) dashboard {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return d
}

func dashboards(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dashboard is here: %v", err)
	}
	return paths
}

func TestDashboardsCanBeImported(t *testing.T) {
	uids := make(map[string]string)
	for _, path := range dashboards(t) {
		d := read(t, path)
		if d.Title == "" || d.UID == "" || len(d.Panels) == 0 {
			t.Errorf("%s has no title, no uid or no panels", path)
		}
		if other, twice := uids[d.UID]; twice {
			t.Errorf("%s and %s have one uid", path, other)
		}
		uids[d.UID] = path
		ids, titles := make(map[int]bool), make(map[string]bool)
		for i, p := range d.Panels {
			if p.ID == 0 || ids[p.ID] || p.Title == "" || titles[p.Type+p.Title] {
				t.Errorf("%s: panel %q has the number or the title of another", path, p.Title)
			}
			ids[p.ID], titles[p.Type+p.Title] = true, true
			if p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %q has no place: %+v", path, p.Title, p.GridPos)
			}
			for _, other := range d.Panels[:i] {
				if overlap(p, other) {
					t.Errorf("%s: panels %q and %q lie on each other", path, p.Title, other.Title)
				}
			}
			if p.Type == "row" {
				continue
			}
			if len(p.Targets) == 0 || p.Datasource == nil || *p.Datasource != chosen {
				t.Errorf("%s: panel %q asks nothing, or not the chosen data source", path, p.Title)
			}
			for _, q := range p.Targets {
				if q.Datasource == nil || *q.Datasource != chosen {
					t.Errorf("%s: panel %q asks %+v", path, p.Title, q.Datasource)
				}
			}
		}
		if d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Type != "datasource" {
			t.Errorf("%s: the data source is not the first variable", path)
		}
	}
}

func overlap(a, b panel) bool {
	p, q := a.GridPos, b.GridPos
	return p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H
}

// series are the label sets of one metric.
type series []map[string]string

// scraped is what a gateway exposes that has carried connections, under the labels
// that its part of a process has.
func scraped(t *testing.T) map[string]series {
	t.Helper()
	log := memlog.New(memlog.Options{})
	publishRoutes(t, log)
	registry := prometheus.NewRegistry()
	g, err := gateway.New(gateway.Config{
		Datacenter: "dc1", Name: "gw1", Log: log, Listen: []string{"127.0.0.1:0"},
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"role": "gateway", "datacenter": "dc1", "name": "gw1"}, registry),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- g.Run(ctx, func() { close(started) }) }()
	<-started
	awaitServing(t, g.Addresses()[0])
	g.Feed().Table().All(func(r *table.Route) bool {
		r.Counters.Connections.Add(1)
		return true
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]series)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			out[family.GetName()] = append(out[family.GetName()], labels)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return out
}

// awaitServing waits until what a gateway refuses is refused: it accepts nothing
// before it has its routes.
func awaitServing(t *testing.T, address string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "this is not TLS"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c)
}

var (
	// selector is a metric in a query, with its matchers; matcher is one of those.
	selector = regexp.MustCompile(`\b(isthmus_[a-z_]+)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
)

// Every metric that a query names is one of a gateway, with the labels and values by
// which the query picks its series.
func TestQueriesAskForWhatAGatewayExposes(t *testing.T) {
	exposed := scraped(t)
	for _, path := range dashboards(t) {
		d := read(t, path)
		queries := make(map[string]string)
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				queries["variable "+v.Name] = v.Definition
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				queries[fmt.Sprint(p.ID, " ", p.Title, " ", q.RefID)] = q.Expr
			}
		}
		for name, query := range queries {
			if strings.Count(query, "(") != strings.Count(query, ")") {
				t.Errorf("%s: %s: brackets of %s", path, name, query)
			}
			found := selector.FindAllStringSubmatch(query, -1)
			if len(found) == 0 {
				t.Errorf("%s: %s asks for no metric of ours: %s", path, name, query)
			}
			labels := map[string]bool{}
			for _, s := range found {
				all := exposed[s[1]]
				if len(all) == 0 {
					t.Errorf("%s: %s: no gateway exposes %s", path, name, s[1])
					continue
				}
				for label := range all[0] {
					labels[label] = true
				}
				if !slices.ContainsFunc(all, func(labels map[string]string) bool { return matches(t, labels, s[2]) }) {
					t.Errorf("%s: %s: no series is %s", path, name, s[0])
				}
			}
			for _, group := range grouping.FindAllStringSubmatch(query, -1) {
				for label := range strings.SplitSeq(group[1], ",") {
					if !labels[strings.TrimSpace(label)] {
						t.Errorf("%s: %s groups by %q, a label of none", path, name, label)
					}
				}
			}
		}
	}
}

// matches reports whether a series has what the matchers ask for; a variable of the
// dashboard stands for anything.
func matches(t *testing.T, labels map[string]string, matchers string) bool {
	t.Helper()
	for _, m := range matcher.FindAllStringSubmatch(matchers, -1) {
		value, there := labels[m[1]]
		if !there {
			return false
		}
		if strings.Contains(m[3], "$") {
			continue
		}
		pattern := "^(?:" + m[3] + ")$"
		if m[2] == "=" || m[2] == "!=" {
			pattern = "^" + regexp.QuoteMeta(m[3]) + "$"
		}
		if regexp.MustCompile(pattern).MatchString(value) == strings.HasPrefix(m[2], "!") {
			return false
		}
	}
	return true
}

// The queries for refusals count what the gateway calls refused, and no more.
func TestRefusalsAreTheGateways(t *testing.T) {
	var others []string
	for _, reason := range table.Reasons() {
		if !reason.Refused() {
			others = append(others, string(reason))
		}
	}
	want := strings.Join(others, "|")
	asked := 0
	for _, p := range read(t, "gateways.json").Panels {
		for _, q := range p.Targets {
			for _, m := range matcher.FindAllStringSubmatch(q.Expr, -1) {
				if m[1] != "reason" {
					continue
				}
				asked++
				if m[3] != want {
					t.Errorf("%s asks for the reasons %s%s; those that are no refusals are %s", p.Title, m[2], m[3], want)
				}
			}
		}
	}
	if asked != 3 {
		t.Errorf("%d queries ask for reasons", asked)
	}
}

// publishRoutes writes a routes stream with one name.
func publishRoutes(t *testing.T, log bus.Log) {
	t.Helper()
	stream := isthmusv1.StreamName(isthmusv1.ClassRoutes, "dc1")
	state, err := log.Create(t.Context(), bus.StreamConfig{Name: stream})
	if err != nil {
		t.Fatal(err)
	}
	service := &isthmusv1.ServiceRef{Name: "api"}
	value, err := isthmusv1.Marshal(&isthmusv1.NameRoute{
		Sni: isthmusv1.SNI(service, "", "dc1", "td"), Service: service,
		Endpoints: &isthmusv1.EndpointSetRef{Datacenter: "dc1", Scope: isthmusv1.Scope_SCOPE_LAN, Service: service},
	})
	if err != nil {
		t.Fatal(err)
	}
	record, err := isthmusv1.Marshal(&isthmusv1.Record{Value: value, Envelope: &isthmusv1.Envelope{
		Incarnation: state.Incarnation, Term: 1, Transaction: "1", Position: 1,
		End: &isthmusv1.TransactionEnd{Complete: true, Messages: 1, Basis: &isthmusv1.Basis{
			Positions: []*isthmusv1.Position{{Stream: "CATALOG_dc1", Incarnation: "c", Sequence: 7}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), stream, 0, []bus.Message{{Key: isthmusv1.NameKey(service, ""), Record: record}}); err != nil {
		t.Fatal(err)
	}
}
