package consul

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
)

// canonicalJSON writes a value as JSON with sorted keys and no spaces, and without
// the escapes that only HTML needs: equal content, equal bytes. Nothing is nil.
func canonicalJSON(value any) []byte {
	switch v := value.(type) {
	case nil:
		return nil
	case map[string]any:
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// What was decoded from JSON can be encoded.
	_ = e.Encode(value)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// respelledJSON is the canonical JSON of one of the API's structures, with the
// keys in snake_case and without what is null. keep names the keys whose values
// are opaque.
func respelledJSON(value any, keep ...string) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	var decoded any
	if json.Unmarshal(data, &decoded) != nil {
		return nil
	}
	return canonicalJSON(respell(decoded, keep))
}

func respell(value any, keep []string) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			name := snakeCase(key)
			if item == nil {
				continue
			}
			if !slices.Contains(keep, name) {
				item = respell(item, keep)
			}
			out[name] = item
		}
		return out
	case []any:
		for i := range v {
			v[i] = respell(v[i], keep)
		}
	}
	return value
}

// snakeCase turns RequestsPerSecond into requests_per_second, TTL into ttl.
func snakeCase(key string) string {
	var b strings.Builder
	runes := []rune(key)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 &&
			(unicode.IsLower(runes[i-1]) || (i+1 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsUpper(runes[i-1]))) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
