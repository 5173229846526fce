package resource_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode/resource"
)

// sidecar is what a golden file of testdata/sidecar gives: one proxy's routes, in the
// text form of their messages.
type sidecar struct {
	proxy   *isthmusv1.ProxyRoutes
	inbound *isthmusv1.Inbound
	routes  *isthmusv1.RouteSet
	sets    map[isthmusv1.SetID]*isthmusv1.EndpointSet
}

// TestSidecarGolden: testdata/sidecar/*.txtar are what one sidecar's routes come to.
func TestSidecarGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/sidecar/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			inputs := slices.DeleteFunc(slices.Clone(archive.Files), func(f txtar.File) bool { return !strings.HasSuffix(f.Name, ".txtpb") })
			got := readSidecar(t, inputs).resources(t)
			want := slices.DeleteFunc(slices.Clone(archive.Files), func(f txtar.File) bool { return strings.HasSuffix(f.Name, ".txtpb") })
			if *update {
				archive.Files = slices.Concat(inputs, got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, f := range want {
				if _, ok := find(got, f.Name); !ok {
					t.Errorf("%s is no more:\n%s", f.Name, f.Data)
				}
			}
			for _, f := range got {
				if before, _ := find(want, f.Name); string(before.Data) != string(f.Data) {
					t.Errorf("%s is\n%s\nwant\n%s", f.Name, f.Data, before.Data)
				}
			}
		})
	}
}

func readSidecar(t *testing.T, files []txtar.File) *sidecar {
	t.Helper()
	s := &sidecar{sets: map[isthmusv1.SetID]*isthmusv1.EndpointSet{}}
	for _, f := range files {
		var into proto.Message
		set := &isthmusv1.EndpointSet{}
		switch kind, _, _ := strings.Cut(strings.TrimSuffix(f.Name, ".txtpb"), "/"); kind {
		case "proxy":
			s.proxy = &isthmusv1.ProxyRoutes{}
			into = s.proxy
		case "inbound":
			s.inbound = &isthmusv1.Inbound{}
			into = s.inbound
		case "routes":
			s.routes = &isthmusv1.RouteSet{}
			into = s.routes
		case "endpoints":
			into = set
		default:
			t.Fatalf("%s: nothing is called so", f.Name)
		}
		if err := prototext.Unmarshal(f.Data, into); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if set.GetRef() != nil {
			s.sets[set.GetRef().ID()] = set
		}
	}
	return s
}

// resources are all that the sidecar is served, and the problems, as files.
func (s *sidecar) resources(t *testing.T) []txtar.File {
	t.Helper()
	var out []txtar.File
	var problems []*isthmusv1.Problem
	kinds := map[resource.Type]string{resource.Cluster: "cluster", resource.Assignment: "assignment", resource.Listener: "listener", resource.Route: "route"}
	add := func(r *resource.Resource) {
		name := kinds[r.Type] + "/" + strings.ReplaceAll(r.Name, "/", "_") + ".json"
		if _, twice := find(out, name); twice {
			t.Errorf("%s is made twice", name)
		}
		out = append(out, txtar.File{Name: name, Data: text(t, r)})
	}
	sets := func(ref *isthmusv1.EndpointSetRef) *isthmusv1.EndpointSet { return s.sets[ref.ID()] }
	public, stated := resource.Public(s.proxy, s.inbound)
	problems = append(problems, stated...)
	for _, r := range public {
		add(r)
	}
	outbound, _ := resource.OutboundOf(s.proxy)
	shapes := map[string]*resource.Shape{}
	for i, u := range resource.Upstreams(s.routes, outbound, sets) {
		shape := u.Shape()
		shapes[s.routes.GetRoutes()[i].GetId()] = shape
		problems = append(append(problems, u.Problems...), shape.Problems...)
		for _, c := range u.Clusters {
			add(c.Resource)
			if c.Assignment != "" {
				add(resource.TargetEndpoints(c.Assignment, c.Target, sets))
			}
		}
		if u.Routes != nil {
			add(u.Routes)
		}
	}
	for _, bind := range s.proxy.GetBinds() {
		l, problem := shapes[bind.GetRoute()].Bound(bind)
		if problem != nil {
			problems = append(problems, problem)
			continue
		}
		if l != nil {
			add(l)
		}
	}
	for i, p := range problems {
		out = append(out, txtar.File{Name: fmt.Sprintf("problem/%d %s", i, p.GetCode()), Data: []byte(p.GetText() + "\n")})
	}
	return out
}
