package resolver

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// merged are two configs as Consul's agent merges them into a registration
// (agent/configentry/merge_service_config.go): objects key by key, and the second
// has a say wherever the first has nothing, nought, false or an empty text.
func merged(first, second opaque) opaque {
	out := opaque{}
	for key, value := range second {
		out[key] = value
	}
	for key, value := range first {
		other, both := second[key]
		a, aIsObject := value.(map[string]any)
		b, bIsObject := other.(map[string]any)
		switch {
		case aIsObject && bIsObject:
			out[key] = map[string]any(merged(a, b))
		case !both || !isEmpty(value):
			out[key] = value
		}
	}
	return out
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return reflect.ValueOf(value).IsZero()
}

// anyCase is the value of a key in its own spelling, else in another case.
func (o opaque) anyCase(key string) (any, bool) {
	if value, ok := o[key]; ok {
		return value, true
	}
	for _, k := range sortedKeys(o) {
		if strings.EqualFold(k, key) {
			return o[k], true
		}
	}
	return nil, false
}

// asObject is a value that is an object, or a list of one; else nil.
func asObject(value any) opaque {
	return opaque{"": value}.object("")
}

// weakBool is a value as Consul reads a flag; false is what is not set.
func weakBool(value any) (on, ok bool) {
	switch v := value.(type) {
	case nil:
		return false, true
	case bool:
		return v, true
	case float64:
		return v != 0, true
	case string:
		if v == "" {
			return false, true
		}
		on, err := strconv.ParseBool(v)
		return on, err == nil
	}
	return false, false
}

// weakNumber is a value as Consul reads a number that cannot be negative; 0 is
// what is not set.
func weakNumber(value any) (n uint32, ok bool) {
	switch v := value.(type) {
	case nil:
		return 0, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case float64:
		if v >= 0 && v <= math.MaxInt32 {
			return uint32(v), true
		}
	case string:
		if v == "" {
			return 0, true
		}
		u, err := strconv.ParseUint(v, 0, 31)
		return uint32(u), err == nil
	}
	return 0, false
}

// shownValue shows a value of a config in a problem, shortened.
func shownValue(value any) string {
	const most = 80
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}

func lower(text string) string { return strings.ToLower(strings.TrimSpace(text)) }
