package dump

import (
	"github.com/cncf/xds/go/udpa/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// hidden stands in place of what is hidden, as in Envoy's own dumps.
const hidden = "[redacted]"

// redacted is a resource without what its model says is sensitive: a key that somebody
// wrote into a resource of their own. What cannot be read is left as it is.
func redacted(body *anypb.Any) *anypb.Any {
	message, err := body.UnmarshalNew()
	if err != nil || !hide(message.ProtoReflect(), false) {
		return body
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return body
	}
	return &anypb.Any{TypeUrl: body.GetTypeUrl(), Value: value}
}

// hide hides what is sensitive in a message, or all of it, and reports whether there was
// anything.
func hide(m protoreflect.Message, everything bool) (found bool) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		clean := redacted(packed)
		found = clean != packed
		packed.Value = clean.GetValue()
		return found
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		sensitive := everything || proto.GetExtension(field.Options(), annotations.E_Sensitive).(bool)
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					found = hide(v.Message(), sensitive) || found
					return true
				})
			}
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				found = hide(value.List().Get(i).Message(), sensitive) || found
			}
		case field.IsList():
		case field.Message() != nil:
			found = hide(value.Message(), sensitive) || found
		case sensitive && field.Kind() == protoreflect.StringKind:
			m.Set(field, protoreflect.ValueOfString(hidden))
			found = true
		case sensitive && field.Kind() == protoreflect.BytesKind:
			m.Set(field, protoreflect.ValueOfBytes([]byte(hidden)))
			found = true
		}
		return true
	})
	return found
}
