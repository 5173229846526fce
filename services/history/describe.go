package history

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Describe says what differs between two values of one kind, a phrase for each
// field, in the order of the model: `mesh gateway mode local → remote`. Nothing
// when they are equal, and one phrase when either is not known to this version.
func Describe(old, next proto.Message) []string {
	if old == nil || next == nil {
		if old == next {
			return nil
		}
		return []string{"its value is of a kind that this version does not know"}
	}
	a, b := old.ProtoReflect(), next.ProtoReflect()
	if a.Descriptor() != b.Descriptor() {
		return []string{"it is of another kind"}
	}
	var d describer
	d.messages("", a, b)
	if len(d.phrases) == 0 && !proto.Equal(old, next) {
		return []string{"fields that this version does not know"}
	}
	return d.phrases
}

// describer walks two messages side by side.
type describer struct{ phrases []string }

func (d *describer) say(parts ...string) {
	d.phrases = append(d.phrases, strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " "))
}

func (d *describer) messages(prefix string, a, b protoreflect.Message) {
	fields := b.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		va, vb := a.Get(field), b.Get(field)
		if va.Equal(vb) && a.Has(field) == b.Has(field) {
			continue
		}
		name := joined(prefix, words(field))
		switch {
		case field.IsList():
			d.lists(name, field, va.List(), vb.List())
		case field.Message() != nil && !isTime(field):
			d.nested(name, a, b, field)
		default:
			d.say(name, scalar(field, va, a.Has(field)), "→", scalar(field, vb, b.Has(field)))
		}
	}
}

// nested describes a message within a message. What is set but says nothing is
// a difference too: an empty block.
func (d *describer) nested(name string, a, b protoreflect.Message, field protoreflect.FieldDescriptor) {
	before := len(d.phrases)
	d.messages(name, a.Get(field).Message(), b.Get(field).Message())
	switch {
	case len(d.phrases) > before:
	case b.Has(field):
		d.say(name, "set")
	default:
		d.say(name, "taken away")
	}
}

func (d *describer) lists(name string, field protoreflect.FieldDescriptor, a, b protoreflect.List) {
	if field.Message() == nil {
		d.scalars(name, field, a, b)
		return
	}
	before, after := byIdentity(a), byIdentity(b)
	for _, id := range after.order {
		if old, ok := before.items[id]; ok {
			d.messages(joined(name, id), old, after.items[id])
		} else {
			d.say(name, id, "added"+said(id, after.items[id]))
		}
	}
	for _, id := range before.order {
		if _, ok := after.items[id]; !ok {
			d.say(name, id, "removed")
		}
	}
}

// said is what a new item of a list says beside its identity, in brackets.
func said(id string, item protoreflect.Message) string {
	var d describer
	d.messages("", item.Type().Zero(), item)
	phrases := slices.DeleteFunc(d.phrases, func(p string) bool { return strings.HasSuffix(p, "→ "+id) })
	for i := range phrases {
		phrases[i] = strings.Replace(phrases[i], " – → ", " ", 1)
	}
	if len(phrases) == 0 {
		return ""
	}
	return " (" + brief(phrases) + ")"
}

func (d *describer) scalars(name string, field protoreflect.FieldDescriptor, a, b protoreflect.List) {
	before, after := texts(field, a), texts(field, b)
	told := len(d.phrases)
	for _, text := range after {
		if !slices.Contains(before, text) {
			d.say(name, "+"+text)
		}
	}
	for _, text := range before {
		if !slices.Contains(after, text) {
			d.say(name, "−"+text)
		}
	}
	if len(d.phrases) == told {
		d.say(name, "in another order")
	}
}

func texts(field protoreflect.FieldDescriptor, list protoreflect.List) []string {
	out := make([]string, list.Len())
	for i := range out {
		out[i] = scalar(field, list.Get(i), true)
	}
	return out
}

// identified is the messages of a list by what tells them apart.
type identified struct {
	order []string
	items map[string]protoreflect.Message
}

// identities are the fields that tell messages of one list apart, best first.
var identities = []protoreflect.Name{
	"check_id", "key", "tag", "hostname", "path", "route", "service_subset", "id", "destination_name", "name", "service", "source", "target", "address", "datacenter",
}

func byIdentity(list protoreflect.List) identified {
	out := identified{items: make(map[string]protoreflect.Message, list.Len())}
	for i := range list.Len() {
		m := list.Get(i).Message()
		id := identity(m)
		for n := 2; out.items[id] != nil || id == ""; n++ {
			id = strings.TrimSpace(fmt.Sprintf("%s #%d", identity(m), n-1))
			if identity(m) != "" {
				id = fmt.Sprintf("%s #%d", identity(m), n)
			}
		}
		out.order = append(out.order, id)
		out.items[id] = m
	}
	return out
}

func identity(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	for _, name := range identities {
		field := fields.ByName(name)
		switch {
		case field == nil || !m.Has(field) || field.IsList():
		case field.Kind() == protoreflect.StringKind:
			return m.Get(field).String()
		case field.Message() != nil:
			if id := identity(m.Get(field).Message()); id != "" {
				return id
			}
		}
	}
	return ""
}

// words is a field's name for people. The field that holds a config entry's own
// content says nothing.
func words(field protoreflect.FieldDescriptor) string {
	if oneof := field.ContainingOneof(); oneof != nil && oneof.Name() == "entry" {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSuffix(string(field.Name()), "_json"), "_", " ")
}

func joined(a, b string) string { return strings.TrimSpace(a + " " + b) }

func isTime(field protoreflect.FieldDescriptor) bool {
	switch field.Message().FullName() {
	case "google.protobuf.Duration", "google.protobuf.Timestamp":
		return true
	}
	return false
}

// scalarShown is how much of a text stands in a phrase.
const scalarShown = 60

func scalar(field protoreflect.FieldDescriptor, value protoreflect.Value, set bool) string {
	text := ""
	switch {
	case field.Message() != nil:
		if set {
			text = timeText(value.Message().Interface())
		}
	case field.Kind() == protoreflect.BytesKind:
		text = string(value.Bytes())
	case field.Kind() == protoreflect.EnumKind:
		text = strconv.Itoa(int(value.Enum()))
		if v := field.Enum().Values().ByNumber(value.Enum()); v != nil {
			_, name, _ := strings.Cut(string(v.Name()), "_")
			text = strings.ToLower(strings.ReplaceAll(name, "_", " "))
		}
	default:
		text = value.String()
	}
	if text == "" {
		return "–"
	}
	if runes := []rune(text); len(runes) > scalarShown {
		return string(runes[:scalarShown]) + "…"
	}
	return text
}

func timeText(m proto.Message) string {
	switch t := m.(type) {
	case *durationpb.Duration:
		return t.AsDuration().String()
	case *timestamppb.Timestamp:
		return t.AsTime().Format("2006-01-02T15:04:05Z07:00")
	}
	return ""
}

// summary says in a few phrases what a new value is.
func summary(m proto.Message) []string {
	switch v := m.(type) {
	case *isthmusv1.Node:
		return phrases(v.GetAddress())
	case *isthmusv1.ServiceInstance:
		kind := v.GetName()
		switch {
		case v.GetKind() == isthmusv1.InstanceKindProxy:
			kind = "proxy of " + v.GetProxy().GetDestinationServiceName()
		case v.GetKind() != "":
			kind = v.GetKind()
		}
		address := ""
		switch port := strconv.Itoa(int(v.GetPort())); {
		case v.GetPort() > 0 && v.GetAddress() != "":
			address = net.JoinHostPort(v.GetAddress(), port)
		case v.GetPort() > 0:
			address = "port " + port
		}
		return phrases(kind, address)
	case *isthmusv1.ConfigEntry:
		return entrySummary(v)
	case *isthmusv1.MeshFacts:
		return phrases("trust domain "+v.GetTrustDomain(), "default intention "+v.GetDefaultIntentionPolicy())
	case *isthmusv1.CARoots:
		return phrases(counted(len(v.GetRoots()), "root"), "trust domain "+v.GetTrustDomain())
	case *isthmusv1.EndpointSet:
		return phrases(counted(len(v.GetEndpoints()), "endpoint"))
	case *isthmusv1.RouteSet:
		return phrases(counted(len(v.GetRoutes()), "route"))
	case *isthmusv1.Basis:
		return phrases(v.Text())
	}
	return nil
}

// entrySummary is what an entry says: the difference to one that says nothing.
func entrySummary(entry *isthmusv1.ConfigEntry) []string {
	empty := &isthmusv1.ConfigEntry{Kind: entry.GetKind(), Name: entry.GetName(), Namespace: entry.GetNamespace(), Partition: entry.GetPartition()}
	details := Describe(empty, entry)
	for i, detail := range details {
		details[i] = strings.Replace(strings.Replace(detail, " – → ", " ", 1), " added", "", 1)
	}
	return details
}

func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

func phrases(all ...string) []string {
	return slices.DeleteFunc(all, func(p string) bool { return p == "" })
}
