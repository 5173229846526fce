package compare_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// golden is what all the golden files of our own resources hold, each file a set.
func golden(t *testing.T) []compare.Set {
	t.Helper()
	files, err := filepath.Glob("../resource/testdata/sidecar/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var out []compare.Set
	for _, file := range append(files, "../resource/testdata/gateway.txtar") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		types := map[string]string{
			"cluster": clusterJSON, "assignment": assignmentJSON, "listener": listenerJSON, "route": routeJSON,
		}
		var lines []string
		for _, f := range txtar.Parse(text).Files {
			kind, _, _ := strings.Cut(f.Name, "/")
			if begin, ok := types[kind]; ok && strings.HasSuffix(f.Name, ".json") {
				lines = append(lines, begin+strings.TrimPrefix(strings.TrimSpace(string(f.Data)), "{"))
			}
		}
		if len(lines) > 0 {
			out = append(out, set(t, lines...))
		}
	}
	return out
}

// TestItself: nothing differs from itself.
func TestItself(t *testing.T) {
	for i, s := range golden(t) {
		if found := compare.Resources(s, s, nil); len(found) > 0 {
			t.Errorf("set %d: %+v", i, found)
		}
	}
}

// TestMutated: whatever one field is changed to, it is a difference, unless a rule says of
// this field that it may be none.
func TestMutated(t *testing.T) {
	sets := golden(t)
	covered := 0
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.SampledFrom(sets).Draw(t, "set")
		url := rapid.SampledFrom(slices.Sorted(maps.Keys(before))).Draw(t, "type")
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(before[url]))).Draw(t, "name")
		m := mutation{t: t}
		after := maps.Clone(before)
		after[url] = maps.Clone(before[url])
		after[url][name] = m.packed(before[url][name])
		if proto.Equal(before[url][name], after[url][name]) {
			t.Fatalf("nothing was changed at %v", m.path)
		}
		if len(compare.Resources(after, before, nil)) > 0 {
			return
		}
		if !m.covered() {
			t.Fatalf("%s %s: a change of %v is no difference, and no rule is about it", url, name, m.path)
		}
		covered++
	})
	t.Logf("%d changes carry no meaning, by a rule", covered)
}

// mutation changes one field of a message, at some depth.
type mutation struct {
	t *rapid.T
	// path are the full names of the fields that lead to the one that is changed.
	path []string
}

// covered reports whether a rule is about the field, or about all that is around it.
func (m *mutation) covered() bool {
	for _, rule := range compare.Rules() {
		if slices.Contains(rule.Fields, m.path[len(m.path)-1]) || slices.ContainsFunc(m.path, func(f string) bool { return slices.Contains(rule.Within, f) }) {
			return true
		}
	}
	return false
}

// packed changes a message that says its own type.
func (m *mutation) packed(packed *anypb.Any) *anypb.Any {
	message, err := packed.UnmarshalNew()
	if err != nil {
		m.t.Fatal(err)
	}
	m.message(message.ProtoReflect())
	out := &anypb.Any{}
	if err := out.MarshalFrom(message); err != nil {
		m.t.Fatal(err)
	}
	return out
}

// message changes one of its fields, or one within.
func (m *mutation) message(message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	var set, all []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		all = append(all, fields.Get(i))
		if message.Has(fields.Get(i)) && fields.Get(i).Message() != nil && !fields.Get(i).IsMap() {
			set = append(set, fields.Get(i))
		}
	}
	if len(set) > 0 && rapid.IntRange(0, 5).Draw(m.t, "deeper") > 0 {
		f := rapid.SampledFrom(set).Draw(m.t, "within")
		m.path = append(m.path, string(f.FullName()))
		m.within(message, f)
		return
	}
	if len(all) == 0 {
		message.SetUnknown(protoreflect.RawFields{0x08, 0x01}) // A field that nobody knows.
		m.path = append(m.path, string(message.Descriptor().FullName())+".(unknown)")
		return
	}
	f := rapid.SampledFrom(all).Draw(m.t, "field")
	m.path = append(m.path, string(f.FullName()))
	m.change(message, f)
}

// within changes something in a field that is set.
func (m *mutation) within(message protoreflect.Message, f protoreflect.FieldDescriptor) {
	inner := message.Mutable(f)
	if f.IsList() {
		at := rapid.IntRange(0, inner.List().Len()-1).Draw(m.t, "item")
		inner = inner.List().Get(at)
	}
	if packed, ok := inner.Message().Interface().(*anypb.Any); ok {
		next := m.packed(packed)
		packed.TypeUrl, packed.Value = next.GetTypeUrl(), next.GetValue()
		return
	}
	m.message(inner.Message())
}

// change gives a field another value, or takes away what it has.
func (m *mutation) change(message protoreflect.Message, f protoreflect.FieldDescriptor) {
	there := message.Has(f)
	switch {
	case there && (f.HasPresence() || f.IsList() || f.IsMap()):
		message.Clear(f)
	case f.IsMap():
		value := message.Mutable(f).Map()
		value.Set(other(f.MapKey(), f.MapKey().Default()).MapKey(), fresh(f.MapValue(), value.NewValue))
	case f.IsList():
		value := message.Mutable(f).List()
		value.Append(fresh(f, value.NewElement))
	case f.Message() != nil:
		message.Set(f, message.NewField(f))
	default:
		message.Set(f, other(f, message.Get(f)))
	}
}

// fresh is an item that is not there yet.
func fresh(f protoreflect.FieldDescriptor, item func() protoreflect.Value) protoreflect.Value {
	if f.Message() != nil {
		return item()
	}
	return other(f, item())
}

// other is another value of a field that is no message.
func other(f protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!v.Bool())
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(v.Enum() + 1)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(v.Int()) + 1)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(v.Int() + 1)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(v.Uint()) + 1)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(v.Uint() + 1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(v.Float()) + 1)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(v.Float() + 1)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append(slices.Clone(v.Bytes()), 'x'))
	default:
		return protoreflect.ValueOfString(v.String() + "x")
	}
}
