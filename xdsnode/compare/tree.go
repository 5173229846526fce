package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// node is a message, a list or a single value, in a form in which rules apply and
// differences are found.
type node struct {
	kind kind
	// of is the message's type.
	of protoreflect.FullName
	// text of a scalar.
	text string
	// fields of an object: those of the message that are set, by Envoy's names, and
	// what else there is of it, in names with a sign that no field has.
	fields map[string]*node
	// items of a list, with a key for each that no other has. ordered: their order is
	// compared.
	items   []*node
	keys    []string
	ordered bool
}

type kind int

const (
	scalar kind = iota
	object
	list
)

func text(s string) *node { return &node{kind: scalar, text: s} }

func (n *node) byKey() map[string]*node {
	out := make(map[string]*node, len(n.items))
	for i, key := range n.keys {
		out[key] = n.items[i]
	}
	return out
}

// at follows fields down; nil: one is not there.
func (n *node) at(names ...string) *node {
	for _, name := range names {
		if n == nil || n.kind != object {
			return nil
		}
		n = n.fields[name]
	}
	return n
}

// list are the items of a field, by their keys; none, where it is not there.
func (n *node) list(name string) map[string]*node {
	if found := n.at(name); found != nil {
		return found.byKey()
	}
	return nil
}

// say is the text of a field; empty: it is not there, or none.
func (n *node) say(names ...string) string {
	if found := n.at(names...); found != nil && found.kind == scalar {
		return found.text
	}
	return ""
}

// Parts of a message that are no fields of it.
const (
	// typeField is what a message says of its own type.
	typeField = "@type"
	// unknownFields are those that this program's version of Envoy's types has not.
	unknownFields = "(unknown fields)"
	// unreadable is the body of a message whose type this program has not.
	unreadable = "(unreadable)"
)

// build makes the node of a message, and applies the rules from the inside out.
func (s *side) build(m protoreflect.Message) *node {
	if len(m.GetUnknown()) == 0 {
		if n := s.plainly(m); n != nil {
			return n
		}
	}
	n := &node{kind: object, of: m.Descriptor().FullName(), fields: map[string]*node{}}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		n.fields[string(f.Name())] = s.field(f, v)
		return true
	})
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		n.fields[unknownFields] = text(hash(unknown))
	}
	return s.apply(n)
}

// plainly is the node of a message that is a value in itself; nil: it is not.
func (s *side) plainly(m protoreflect.Message) *node {
	switch v := m.Interface().(type) {
	case *anypb.Any:
		return s.unwrap(v)
	case *durationpb.Duration:
		if d := v.AsDuration(); proto.Equal(durationpb.New(d), v) { // One of 300 years is none of Go's.
			return text(d.String())
		}
	case *typev3.Percent:
		return text(strconv.FormatFloat(v.GetValue(), 'g', -1, 64) + "%")
	case *structpb.Value:
		return ofValue(v)
	case *structpb.Struct:
		return ofStruct(v)
	}
	if m.Descriptor().ParentFile().Path() != "google/protobuf/wrappers.proto" {
		return nil
	}
	// A value that is wrapped to tell it from none.
	f := m.Descriptor().Fields().ByName("value")
	return text(plain(f, m.Get(f)))
}

// unwrap reads a message that says its own type; one of a type that this program has
// not is compared as the bytes that it is.
func (s *side) unwrap(packed *anypb.Any) *node {
	message, err := packed.UnmarshalNew()
	if err != nil {
		return &node{kind: object, fields: map[string]*node{
			typeField: text(packed.GetTypeUrl()), unreadable: text(hash(packed.GetValue())),
		}}
	}
	n := s.build(message.ProtoReflect())
	if n.kind != object {
		n = &node{kind: object, fields: map[string]*node{"value": n}}
	}
	n.fields[typeField] = text(packed.GetTypeUrl())
	return n
}

// field makes the node of a field that is set.
func (s *side) field(f protoreflect.FieldDescriptor, v protoreflect.Value) *node {
	switch {
	case f.IsMap():
		n := &node{kind: object, fields: map[string]*node{}}
		v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
			n.fields[key.String()] = s.value(f.MapValue(), value)
			return true
		})
		return n
	case f.IsList():
		n := &node{kind: list, ordered: true}
		for i := range v.List().Len() {
			n.items = append(n.items, s.value(f, v.List().Get(i)))
			n.keys = append(n.keys, strconv.Itoa(i))
		}
		arrange(f.FullName(), n)
		return n
	}
	return s.value(f, v)
}

// value makes the node of one value.
func (s *side) value(f protoreflect.FieldDescriptor, v protoreflect.Value) *node {
	if f.Kind() == protoreflect.MessageKind || f.Kind() == protoreflect.GroupKind {
		return s.build(v.Message())
	}
	return text(renamed(f.FullName(), plain(f, v)))
}

// plain is a value in words. Bytes may be a secret.
func plain(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.EnumKind:
		if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
			return string(value.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case protoreflect.BytesKind:
		return hash(v.Bytes())
	}
	return v.String()
}

// ofStruct and ofValue make the nodes of free-form data, whose texts are in quotes.
func ofStruct(m *structpb.Struct) *node {
	n := &node{kind: object, fields: map[string]*node{}}
	for key, value := range m.GetFields() {
		n.fields[key] = ofValue(value)
	}
	return n
}

func ofValue(m *structpb.Value) *node {
	switch v := m.GetKind().(type) {
	case nil:
		return text("(no value)")
	case *structpb.Value_StructValue:
		return ofStruct(v.StructValue)
	case *structpb.Value_ListValue:
		n := &node{kind: list, ordered: true}
		for i, item := range v.ListValue.GetValues() {
			n.items = append(n.items, ofValue(item))
			n.keys = append(n.keys, strconv.Itoa(i))
		}
		return n
	}
	out, err := json.Marshal(m.AsInterface())
	if err != nil {
		return text(m.String()) // A number that JSON has not.
	}
	return text(string(out))
}

// hash stands for bytes that are compared and not shown.
func hash(bytes []byte) string {
	sum := sha256.Sum256(bytes)
	return "sha256 " + hex.EncodeToString(sum[:12])
}
