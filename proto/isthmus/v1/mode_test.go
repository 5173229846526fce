package isthmusv1_test

import (
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestMode(t *testing.T) {
	for _, test := range []struct {
		mode      isthmusv1.Mode
		valid     bool
		effective isthmusv1.Mode
	}{
		{"", true, "none"}, {"none", true, "none"}, {"local", true, "local"}, {"remote", true, "remote"},
		{"Local", false, "none"}, {"REMOTE", false, "none"}, {"default", false, "none"}, {" local", false, "none"}, {"bogus", false, "none"},
	} {
		if got := test.mode.Valid(); got != test.valid {
			t.Errorf("%q valid: %v", test.mode, got)
		}
		if got := test.mode.Effective(); got != test.effective {
			t.Errorf("%q acts as %q, want %q", test.mode, got, test.effective)
		}
	}
}

// TestNames: every level and path has the name that commands and their JSON use.
func TestNames(t *testing.T) {
	levels := []string{
		"", "upstream", "override", "instance", "upstream-defaults", "service-defaults", "proxy-defaults",
		"target-service-defaults", "default", "merged",
	}
	if len(levels) != len(isthmusv1.Level_name) {
		t.Errorf("%d levels, %d names", len(isthmusv1.Level_name), len(levels))
	}
	for i, want := range levels {
		if got := isthmusv1.Level(i).Name(); got != want {
			t.Errorf("level %d is %q, want %q", i, got, want)
		}
	}
	for i, want := range []string{"", "direct", "local-gateway", "remote-gateway", "none"} {
		if got := isthmusv1.Path(i).Name(); got != want {
			t.Errorf("path %d is %q, want %q", i, got, want)
		}
	}
}
