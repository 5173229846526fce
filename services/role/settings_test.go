package role

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// values is a set of settings with one number, one text and one list.
type values struct {
	port  int
	name  string
	lists []string
}

func (v *values) settings(given ...string) []Setting {
	settings := []Setting{
		{Name: "port", Set: func(s string) (err error) { v.port, err = strconv.Atoi(s); return err }},
		{Name: "node-name", Set: func(s string) error { v.name = s; return nil }},
		{Name: "accept-from", Many: true, Set: func(s string) error { v.lists = append(v.lists, s); return nil }},
	}
	for i := range settings {
		settings[i].Given = slices.Contains(given, settings[i].Name)
	}
	return settings
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestResolveTakesTheFirstPlaceThatHasAValue(t *testing.T) {
	file := []FileSetting{{"port", "3", "f", 1}, {"node-name", "file", "f", 2}, {"accept-from", "a", "f", 3}, {"accept-from", "b", "f", 4}}
	for _, tt := range []struct {
		name  string
		given []string
		env   []string
		file  []FileSetting
		want  values
	}{
		{"default", nil, nil, nil, values{port: 1, name: "default"}},
		{"file over default", nil, nil, file, values{port: 3, name: "file", lists: []string{"a", "b"}}},
		{"environment over file", nil, []string{"ISTHMUS_PORT", "2", "ISTHMUS_ACCEPT_FROM", "x, y"}, file,
			values{port: 2, name: "file", lists: []string{"x", "y"}}},
		{"flag over environment", []string{"port"}, []string{"ISTHMUS_PORT", "2", "ISTHMUS_NODE_NAME", "env"}, file,
			values{port: 1, name: "env", lists: []string{"a", "b"}}},
		{"an empty variable sets nothing", nil, []string{"ISTHMUS_PORT", ""}, file[:2], values{port: 3, name: "file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := values{port: 1, name: "default"}
			if err := Resolve(got.settings(tt.given...), environment(tt.env...), tt.file); err != nil {
				t.Fatal(err)
			}
			if got.port != tt.want.port || got.name != tt.want.name || !slices.Equal(got.lists, tt.want.lists) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestResolveReportsAllThatIsWrong(t *testing.T) {
	file := []FileSetting{
		{"prot", "3", "isthmus.conf", 1}, {"node-name", "a", "isthmus.conf", 2},
		{"node-name", "b", "isthmus.conf", 5}, {"accept-from", "a", "isthmus.conf", 6}, {"accept-from", "b", "isthmus.conf", 7},
	}
	var v values
	err := Resolve(v.settings(), environment("ISTHMUS_PORT", "many"), file)
	for _, sentinel := range []error{ErrUnknownSetting, ErrSettingTwice, ErrSettingValue, strconv.ErrSyntax} {
		if !errors.Is(err, sentinel) {
			t.Errorf("%v is not reported", sentinel)
		}
	}
	for _, part := range []string{
		"isthmus.conf:1: prot: no such setting (did you mean port?)",
		"isthmus.conf:5: node-name: the setting is there already, in line 2",
		`ISTHMUS_PORT: the value does not fit the setting: "many"`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "accept-from") {
		t.Errorf("a setting with several values was refused: %v", err)
	}
}

func TestParseSettings(t *testing.T) {
	text := "# The gateway of dc1.\n\nadmin_bind = 127.0.0.1:9500\n  node-name=\"a # b\"  # its name\naccept-from = 10.0.0.0/8 # ours\nempty =\n"
	got, err := ParseSettings("isthmus.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []FileSetting{
		{"admin-bind", "127.0.0.1:9500", "isthmus.conf", 3},
		{"node-name", "a # b", "isthmus.conf", 4},
		{"accept-from", "10.0.0.0/8", "isthmus.conf", 5},
		{"empty", "", "isthmus.conf", 6},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestParseSettingsNamesEveryBadLine(t *testing.T) {
	text := "admin-bind 127.0.0.1\nok = 1\n= 2\nnode name = x\nquoted = \"open\nafter = \"a\" b\nhash = # nothing\n"
	got, err := ParseSettings("f", []byte(text))
	if !errors.Is(err, ErrSettingLine) {
		t.Fatalf("error %v", err)
	}
	for _, line := range []string{"f:1:", "f:3:", "f:4:", "f:5:", "f:6:", "f:7:"} {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("%s is not named in %q", line, err)
		}
	}
	if len(got) != 1 || got[0].Name != "ok" {
		t.Errorf("settings %v", got)
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("a = b\n# c\nd=\"e\"")
	f.Fuzz(func(t *testing.T, text string) {
		settings, _ := ParseSettings("f", []byte(text))
		last := 0
		for _, s := range settings {
			if s.Line <= last {
				t.Errorf("line %d after %d", s.Line, last)
			}
			if s.Name == "" || strings.ContainsAny(s.Name, "= \t\n") {
				t.Errorf("name %q", s.Name)
			}
			last = s.Line
		}
	})
}

func TestNearest(t *testing.T) {
	names := []string{"admin-bind", "nats", "datacenter", "log-level"}
	for name, want := range map[string]string{
		"admin-bnd": "admin-bind", "natz": "nats", "data-center": "datacenter", "loglevel": "log-level",
		"nats": "nats", "catalog": "", "x": "",
	} {
		if got := Nearest(name, names); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
