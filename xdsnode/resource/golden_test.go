package resource_test

import (
	"flag"
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

var update = flag.Bool("update", false, "write the golden files anew; read what changed before you commit it")

// world is what a golden file gives: routes as the resolver writes them, in the text
// form of their messages.
type world struct {
	gateway   *isthmusv1.GatewaySettings
	names     []*isthmusv1.NameRoute
	wildcards []*isthmusv1.WildcardRoute
	sets      map[isthmusv1.SetID]*isthmusv1.EndpointSet
	parts     parts
}

// TestGolden: testdata/*.txtar are routes, and the resources that they come to.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := world{
				sets:  map[isthmusv1.SetID]*isthmusv1.EndpointSet{},
				parts: parts{routes: map[string]*isthmusv1.Route{}, inbounds: map[string]*isthmusv1.Inbound{}},
			}
			inputs := archive.Files[:0:0]
			want := map[string]string{}
			for _, f := range archive.Files {
				if strings.HasSuffix(f.Name, ".json") {
					want[f.Name] = string(f.Data)
					continue
				}
				inputs = append(inputs, f)
				w.read(t, f)
			}
			got := w.resources(t)
			for name, text := range want {
				if _, ok := find(got, name); !ok {
					t.Errorf("%s is no resource any more:\n%s", name, text)
				}
			}
			for _, f := range got {
				if want[f.Name] != string(f.Data) {
					t.Errorf("%s is\n%s\nwant\n%s", f.Name, f.Data, want[f.Name])
				}
			}
			if *update {
				archive.Files = slices.Concat(inputs, got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func find(files []txtar.File, name string) (txtar.File, bool) {
	for _, f := range files {
		if f.Name == name {
			return f, true
		}
	}
	return txtar.File{}, false
}

// read takes one message: gateway, name, wildcard, endpoints, route or inbound is what it
// is.
func (w *world) read(t *testing.T, f txtar.File) {
	t.Helper()
	if w.parts.read(t, f) {
		return
	}
	into := func(m proto.Message) {
		if err := prototext.Unmarshal(f.Data, m); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	kind, _, _ := strings.Cut(f.Name, "/")
	switch kind {
	case "gateway":
		w.gateway = &isthmusv1.GatewaySettings{}
		into(w.gateway)
	case "name":
		m := &isthmusv1.NameRoute{}
		into(m)
		w.names = append(w.names, m)
	case "wildcard":
		m := &isthmusv1.WildcardRoute{}
		into(m)
		w.wildcards = append(w.wildcards, m)
	case "endpoints":
		m := &isthmusv1.EndpointSet{}
		into(m)
		w.sets[m.GetRef().ID()] = m
	default:
		t.Fatalf("%s: nothing is called so", f.Name)
	}
}

// resources are all of the world, as files.
func (w *world) resources(t *testing.T) []txtar.File {
	t.Helper()
	var out []txtar.File
	add := func(r *resource.Resource) {
		if r == nil {
			return
		}
		kind := map[resource.Type]string{resource.Cluster: "cluster", resource.Assignment: "assignment", resource.Listener: "listener"}[r.Type]
		out = append(out, txtar.File{Name: kind + "/" + r.Name + ".json", Data: text(t, r)})
	}
	cluster := func(ref *isthmusv1.EndpointSetRef, build func(hosts *isthmusv1.EndpointSet) *resource.Resource) {
		set := w.sets[ref.ID()]
		if resource.HasHostname(set) {
			add(build(set))
			return
		}
		c := build(nil)
		add(c)
		add(resource.EndpointsOf(c.Name, set))
	}
	for _, r := range resource.GatewayListeners(w.gateway, w.wildcards) {
		add(r)
	}
	for _, v := range w.wildcards {
		cluster(v.GetEndpoints(), func(hosts *isthmusv1.EndpointSet) *resource.Resource {
			return resource.RemoteCluster(v, w.gateway, hosts)
		})
	}
	for _, n := range w.names {
		cluster(n.GetEndpoints(), func(hosts *isthmusv1.EndpointSet) *resource.Resource {
			return resource.NameCluster(n, w.gateway, hosts)
		})
	}
	return append(out, w.parts.files(t)...)
}

// text is a resource as JSON that does not depend on the library's build.
func text(t *testing.T, r *resource.Resource) []byte {
	t.Helper()
	message, err := r.Message()
	if err != nil {
		t.Fatalf("%s: %v", r.Name, err)
	}
	return textOf(t, message)
}
