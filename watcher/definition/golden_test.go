package definition_test

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

var update = flag.Bool("update", false, "rewrite the golden files with what the parser says now")

var datacenter = definition.Options{
	Datacenter: "dc1", TrustDomain: "11111111-2222-3333-4444-555555555555.consul", KnownDatacenters: []string{"dc2", "dc1"},
}

// model writes values as text for people: the key, where it was written, and
// every field that is set.
func model(catalog definition.Catalog) string {
	var b strings.Builder
	for _, v := range catalog.Values {
		fmt.Fprintf(&b, "%s", v.Key)
		if v.Source.GetLine() > 0 {
			fmt.Fprintf(&b, "  (%s:%d)", v.Source.GetFile(), v.Source.GetLine())
		}
		b.WriteString("\n")
		writeMessage(&b, v.Message.ProtoReflect(), "  ")
	}
	return b.String()
}

func writeMessage(b *strings.Builder, m protoreflect.Message, indent string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if !f.IsList() {
			writeValue(b, f, m.Get(f), indent)
			continue
		}
		for j := range m.Get(f).List().Len() {
			writeValue(b, f, m.Get(f).List().Get(j), indent)
		}
	}
}

func writeValue(b *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value, indent string) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		fmt.Fprintf(b, "%s%s:\n", indent, f.Name())
		writeMessage(b, v.Message(), indent+"  ")
	case protoreflect.BytesKind:
		fmt.Fprintf(b, "%s%s: %s\n", indent, f.Name(), v.Bytes())
	default:
		fmt.Fprintf(b, "%s%s: %v\n", indent, f.Name(), v.Interface())
	}
}

func problems(catalog definition.Catalog) string {
	var b strings.Builder
	for _, p := range catalog.Problems {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

// seed are the examples as they were published, byte for byte; the two HCL
// forms of the third also in the one block in which they stand there.
var seed = map[string]string{
	"1-global.hcl":          "d27e9e011f9838310b25b815180393176cad30d6ed5467886eccb46b1f2edfec",
	"1-global.yaml":         "1b6453d972622f4afc4ef5d676d29db7dbb86df8b76aef9cbeec57eff6577cbd",
	"2-service.hcl":         "94ac3bd9b301ac35088484335fdbbfe2a92f8e92b159aba4420e405cc7851d5a",
	"2-service.yaml":        "a30886f0e6246c1d292478537d293c838212cd1e1fac3ae3aa0962b96e1ff8df",
	"3-instance-inline.hcl": "437f854b2cf8053ec735007ae07a3ff8686bfa016d570dfc3f27be2ce8898a3d",
	"3-instance.hcl":        "ee0e8b0174aa4cf528464067ae508afd06b969b2b06b2ec887ef83533dbac0bc",
	"3-instance.yaml":       "594e8c12190c7e5bdb7e41cdff3769dee29369ddd528837ba1f7e02572a8586d",
	"3-one-block.hcl":       "1e1c5a0fa7c90cd61c2d4c70cb5dd222a2b1a7070daaff194cad723d254afce4",
	"4-upstreams.hcl":       "4191c87cf2313ea07a49890ef88fe53644e57fc1c48255f3faddaf6ca8c8b7ca",
	"4-upstreams.yaml":      "c0d4dd02249b47be02806b0788236e7775e5d00779666ddd64624cbc4465019a",
}

func TestSeedExamplesAreAcceptedVerbatim(t *testing.T) {
	for name, sum := range seed {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", "seed", name))
			if err != nil {
				t.Fatal(err)
			}
			if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
				t.Fatalf("the example was edited: it has the sum %x", got)
			}
			catalog := definition.Parse([]definition.File{{Name: name, Data: data}}, datacenter)
			if catalog.HasErrors() {
				t.Errorf("refused:\n%s", problems(catalog))
			}
			checkRules(t, catalog)
			golden(t, filepath.Join("testdata", "seed", name+".golden"), "-- model --\n"+model(catalog)+"-- problems --\n"+problems(catalog))
		})
	}
}

// TestGolden reads each archive as a datacenter's directory and compares the
// model and the problems, which stand in the archive too.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var files []definition.File
			kept := &txtar.Archive{Comment: archive.Comment}
			for _, f := range archive.Files {
				if f.Name == "model" || f.Name == "problems" {
					continue
				}
				files = append(files, definition.File{Name: f.Name, Data: f.Data})
				kept.Files = append(kept.Files, f)
			}
			catalog := definition.Parse(files, datacenter)
			checkRules(t, catalog)
			kept.Files = append(kept.Files,
				txtar.File{Name: "model", Data: []byte(model(catalog))},
				txtar.File{Name: "problems", Data: []byte(problems(catalog))})
			golden(t, path, string(txtar.Format(kept)))
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-golden +got; run with -update to accept):\n%s", path, diff)
	}
}

// checkRules holds for whatever comes out: values obey the rules of their
// kinds, keys stand once and in order, and problems have a place and a fix.
func checkRules(t interface {
	Helper()
	Errorf(string, ...any)
}, catalog definition.Catalog) {
	t.Helper()
	for i, v := range catalog.Values {
		if i > 0 && catalog.Values[i-1].Key.Compare(v.Key) >= 0 {
			t.Errorf("%s does not come after %s", v.Key, catalog.Values[i-1].Key)
		}
		if judged, ok := v.Message.(interface{ Validate() isthmusv1.Violations }); ok {
			for _, violation := range judged.Validate() {
				t.Errorf("%s came out and breaks a rule: %s", v.Key, violation)
			}
		}
		if _, err := proto.Marshal(v.Message); err != nil {
			t.Errorf("%s: %v", v.Key, err)
		}
	}
	for _, p := range catalog.Problems {
		if p.Line < 1 || p.File == "" || p.Problem == "" || p.Fix == "" {
			t.Errorf("a problem without place or fix: %+v", p)
		}
	}
}
