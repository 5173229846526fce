package archtest

import (
	"slices"
	"strings"
	"testing"
)

// layout is section 5 of the design, as a table. A new package needs a row, and
// a reason that a reviewer accepts.
var layout = Layout{
	Module:   "github.com/isthmus-mesh/isthmus",
	MaxLines: 400,

	TopLevel: words("services proto bus watcher xdsnode gateway deploy go.mod go.sum Taskfile.yml README.md LICENSE CHANGELOG.md CONTRIBUTING.md"),

	Packages: []Package{
		//  package               may import, of ours
		row("proto/isthmus/v1   ", "", Pure),
		row("bus                ", "P", Impure),
		row("bus/memlog         ", "P bus", Impure),
		row("bus/embed          ", "P bus", Impure),
		row("bus/bustest        ", "P bus", Impure),
		row("watcher            ", "P bus", Impure),
		row("watcher/definition ", "P", Pure),
		row("watcher/file       ", "P watcher watcher/definition", Impure),
		row("watcher/consul     ", "P watcher services/consul", Impure),
		row("services/resolver  ", "P", Pure),
		row("services/history   ", "P bus services/resolver xdsnode", Impure),
		row("services/identity  ", "P", Impure),
		row("services/consul    ", "P services/identity", Impure),
		row("services/consul/devagent", "", Impure), // real agents: demo, tests, benchmark
		row("services/consul/devagent/agenttest", "services/consul/devagent", Impure),
		row("services/check     ", "P bus services/consul", Impure),
		row("services/console   ", "services/history", Impure),
		row("services/envoy     ", "", Impure),
		row("services/role      ", "", Impure),
		row("services/top       ", "gateway/tally", Pure), // counters → rates → a table, for the command
		row("services/isthmus   ", "everything", Impure),
		row("xdsnode/resource   ", "P", Pure),
		row("xdsnode            ", "P bus xdsnode/resource", Impure),
		row("xdsnode/ads        ", "P xdsnode", Impure),
		row("xdsnode/sds        ", "P services/identity", Impure),
		row("xdsnode/dump       ", "P xdsnode", Pure),
		row("xdsnode/bootstrap  ", "P", Pure),
		row("xdsnode/client     ", "P", Impure),
		row("xdsnode/compare    ", "P", Pure), // ours against Consul's, on plain resources: the command and the conformance test
		row("gateway/hello      ", "P", Pure),
		row("gateway/table      ", "P", Steady),
		row("gateway/engine     ", "gateway/hello gateway/table", Impure), // what the engines have in common
		row("gateway/relay      ", "gateway/hello gateway/table gateway/engine", Impure),
		row("gateway/enginetest ", "P gateway/hello gateway/table gateway/engine", Impure), // one suite for every engine
		row("gateway/loop       ", "gateway/hello gateway/table gateway/engine", Impure),
		row("gateway/tally      ", "", Pure), // what a gateway counted, as its admin server says it
		row("gateway            ", "P bus gateway/tally gateway/hello gateway/table gateway/engine gateway/relay gateway/loop", Impure),
		row("gateway/sidecar    ", "P bus gateway/table gateway/relay services/identity", Impure),
	},

	Owners: []Owner{
		//  library                                    only in
		{"github.com/nats-io/nats.go", words("bus")},
		{"github.com/nats-io/nats-server", words("bus/embed")},
		{"github.com/hashicorp/consul/api", words("services/consul")},
		{"github.com/envoyproxy/go-control-plane", words("xdsnode")},
		{"google.golang.org/grpc", words("xdsnode")},
		{"github.com/hashicorp/hcl", words("watcher/definition")},
		{"go.yaml.in/yaml", words("watcher/definition")},
		{"gopkg.in/yaml.v3", nil},
		{"github.com/spf13/cobra", words("services/isthmus")},
		{"github.com/spf13/pflag", words("services/isthmus")},
	},
}

// row is one row of the import table; P stands for proto/isthmus/v1.
func row(folder, imports string, purity Purity) Package {
	allowed := words(imports)
	for i, name := range allowed {
		if name == "P" {
			allowed[i] = "proto/isthmus/v1"
		}
	}
	return Package{Folder: strings.TrimSpace(folder), Imports: allowed, Purity: purity}
}

func words(text string) []string { return strings.Fields(text) }

// The repository keeps to its design.
func TestRepository(t *testing.T) {
	sources, err := Repository("../..")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(sources, func(s Source) bool { return s.Path == "proto/isthmus/v1/doc.go" }) {
		t.Fatal("the model is not among the files: this is not the repository")
	}
	for _, violation := range Check(sources, layout) {
		t.Error(violation)
	}
}

// The table itself is sound: no row twice, no import of a package without a row,
// and imports go one way.
func TestTable(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range layout.Packages {
		if _, twice := imports[p.Folder]; twice {
			t.Errorf("%s has two rows", p.Folder)
		}
		imports[p.Folder] = p.Imports
	}
	var visit func(folder string, above []string)
	visit = func(folder string, above []string) {
		if slices.Contains(above, folder) {
			t.Errorf("a circle: %s", strings.Join(append(above, folder), " → "))
			return
		}
		for _, next := range imports[folder] {
			if _, ok := imports[next]; !ok && next != "everything" {
				t.Errorf("%s may import %s, which has no row", folder, next)
			}
			visit(next, append(slices.Clone(above), folder))
		}
	}
	for _, p := range layout.Packages {
		visit(p.Folder, nil)
	}
}
