package resolver

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestParseOpaque(t *testing.T) {
	for text, keys := range map[string]int{
		"": 0, "{": 0, "5": 0, "null": 0, "[]": 0, `[{"a":1}]`: 0, `"a"`: 0, "{}": 0, `{"a":1} x`: 0,
		`{"a":1}`: 1, ` {"a":1,"b":null} `: 2,
	} {
		if got := parseOpaque([]byte(text)); len(got) != keys {
			t.Errorf("%s has keys %v, want %d", text, got, keys)
		}
	}
}

// TestOpaqueNumbers: whole numbers that fit, written as numbers or as text.
func TestOpaqueNumbers(t *testing.T) {
	for _, test := range []struct {
		json string
		want uint32
		ok   bool
	}{
		{"0", 0, true},
		{"1", 1, true},
		{"4294967295", 4294967295, true},
		{"4294967296", 0, false},
		{"-1", 0, false},
		{`"0"`, 0, true},
		{`" 7 "`, 7, true},
		{`"4294967295"`, 4294967295, true},
		{`"4294967296"`, 0, false},
		{`"-1"`, 0, false},
		{`"seven"`, 0, false},
		{`""`, 0, false},
		{"true", 0, false},
		{"null", 0, false},
		{"[1]", 0, false},
	} {
		got, ok := parseOpaque([]byte(`{"n":` + test.json + `}`)).number("n")
		if got != test.want || ok != test.ok {
			t.Errorf("%s is %d, %v; want %d, %v", test.json, got, ok, test.want, test.ok)
		}
	}
	if got, ok := (opaque{}).number("n"); ok {
		t.Errorf("what is not there is %d", got)
	}
}

// TestOpaqueObjects: an object, or a list of just one, as HCL makes them.
func TestOpaqueObjects(t *testing.T) {
	for text, want := range map[string]opaque{
		`{"a":"b"}`:             {"a": "b"},
		`[{"a":"b"}]`:           {"a": "b"},
		`[]`:                    nil,
		`[{"a":"b"},{"a":"c"}]`: nil,
		`["a"]`:                 nil,
		`"a"`:                   nil,
	} {
		if got := parseOpaque([]byte(`{"o":` + text + `}`)).object("o"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
}

// TestOpaqueModes: text, else an object's mode, in either spelling of the key.
func TestOpaqueModes(t *testing.T) {
	for text, want := range map[string]string{
		`"local"`:                            "local",
		`{"mode":"local"}`:                   "local",
		`{"Mode":"local"}`:                   "local",
		`{"mode":"local","Mode":"remote"}`:   "local",
		`[{"mode":"remote"}]`:                "remote",
		`[{"mode":"local"},{"mode":"none"}]`: "",
		`""`:                                 "",
		`{}`:                                 "",
		`5`:                                  "",
	} {
		if got := parseOpaque([]byte(`{"mesh_gateway":` + text + `}`)).mode(); got != want {
			t.Errorf("%s is mode %q, want %q", text, got, want)
		}
	}
	if got := parseOpaque([]byte(`{"mode":"local"}`)).mode(); got != "" {
		t.Errorf("without mesh_gateway the mode is %q", got)
	}
}

func TestJoinArrays(t *testing.T) {
	for _, test := range []struct {
		arrays []string
		want   string
	}{
		{nil, ""},
		{[]string{"", "[]", "null"}, ""},
		{[]string{`[1]`}, `[1]`},
		{[]string{`[{"a": 1}, 2]`, "", `["b"]`}, `[{"a":1},2,"b"]`},
		{[]string{`{"a":1}`, `[`, "7", `[1]`, "x"}, `[1]`},
	} {
		var arrays [][]byte
		for _, text := range test.arrays {
			arrays = append(arrays, []byte(text))
		}
		got := joinArrays(arrays...)
		if string(got) != test.want || (got == nil) != (test.want == "") {
			t.Errorf("%q join to %s, want %s", test.arrays, got, test.want)
		}
		if got != nil && !json.Valid(got) {
			t.Errorf("%s is no JSON", got)
		}
	}
}

// TestOpaqueNamed: keys are found as Consul spells them in what it merges too;
// the spelling with underscores counts before any other.
func TestOpaqueNamed(t *testing.T) {
	for text, want := range map[string]opaque{
		`{"max_connections":1}`:                        {"max_connections": 1.0},
		`{"MaxConnections":2}`:                         {"max_connections": 2.0},
		`{"maxconnections":3}`:                         {"max_connections": 3.0},
		`{"MaxConnections":2,"max_connections":1}`:     {"max_connections": 1.0},
		`{"MaxConnections":2,"max_connections":null}`:  {"max_connections": nil},
		`{"maxConnections":3,"MaxConnections":2}`:      {"max_connections": 2.0},
		`{"Max_Connections":4,"maxconnections_":5}`:    {},
		`{"other":1}`:                                  {},
		`{}`:                                           {},
		`{"MaxConnections":2,"interval":"1s","Odd":1}`: {"max_connections": 2.0, "interval": "1s"},
	} {
		if got := parseOpaque([]byte(text)).named("max_connections", "interval"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
}
