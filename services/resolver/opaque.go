package resolver

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// opaque is an opaque configuration, read. Consul reads these weakly typed, so a
// number may be written as text.
type opaque map[string]any

// parseOpaque reads a JSON object; what is no object has no keys.
func parseOpaque(text []byte) opaque {
	if len(text) == 0 {
		return opaque{}
	}
	out := opaque{}
	if err := json.Unmarshal(text, &out); err != nil || out == nil {
		return opaque{}
	}
	return out
}

// text of a key; empty when it is not there or not text.
func (o opaque) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// number of a key.
func (o opaque) number(key string) (uint32, bool) {
	switch n := o[key].(type) {
	case float64:
		if n >= 0 && n <= math.MaxUint32 {
			return uint32(n), true
		}
	case string:
		if u, err := strconv.ParseUint(strings.TrimSpace(n), 10, 32); err == nil {
			return uint32(u), true
		}
	}
	return 0, false
}

// object of a key; empty when it is not there or no object. A list of one
// object counts as that object, as HCL makes such lists.
func (o opaque) object(key string) opaque {
	switch v := o[key].(type) {
	case map[string]any:
		return v
	case []any:
		if len(v) == 1 {
			if m, ok := v[0].(map[string]any); ok {
				return m
			}
		}
	}
	return nil
}

// named gives the keys of these names, however they are spelled: as here, or
// without underscores and in any case. Of several spellings that of here counts,
// else the first.
func (o opaque) named(names ...string) opaque {
	out := opaque{}
	for _, name := range names {
		if v, ok := o[name]; ok {
			out[name] = v
			continue
		}
		for _, key := range sortedKeys(o) {
			if strings.EqualFold(key, strings.ReplaceAll(name, "_", "")) {
				out[name] = o[key]
				break
			}
		}
	}
	return out
}

// mode of the key mesh_gateway, which is text or an object with a mode.
func (o opaque) mode() string {
	if mode := o.text("mesh_gateway"); mode != "" {
		return mode
	}
	mesh := o.object("mesh_gateway")
	if mode := mesh.text("mode"); mode != "" {
		return mode
	}
	return mesh.text("Mode")
}

// joinArrays makes one JSON array of several; what is no array adds nothing.
func joinArrays(arrays ...[]byte) []byte {
	var all []json.RawMessage
	for _, text := range arrays {
		var items []json.RawMessage
		if len(text) > 0 && json.Unmarshal(text, &items) == nil {
			all = append(all, items...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	out, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return out
}
