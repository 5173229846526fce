package engine

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnpaced(t *testing.T) {
	for _, c := range []struct {
		name, system string
		// may is what the process may have.
		may  []string
		want string
	}{
		{"what does not pace is left", "cubic", []string{"reno"}, ""},
		{"another that does not is too", "dctcp", []string{"cubic", "reno"}, ""},
		{"BBR is not for within a datacenter", "bbr", []string{"reno", "cubic"}, "reno"},
		{"nor are its later versions", "bbr3", []string{"reno"}, "reno"},
		{"it stays where there is nothing else", "bbr", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := unpacedBeside(c.system, func(name string) bool { return slices.Contains(c.may, name) }); got != c.want {
				t.Errorf("%q; want %q", got, c.want)
			}
		})
	}
}

func TestCongestionControl(t *testing.T) {
	if got, err := CongestionControl(CongestionSystem); got != "" || err != nil {
		t.Errorf("system: %q, %v", got, err)
	}
	// What the kernel of this machine has.
	if got, err := CongestionControl(CongestionAuto); got != "" && got != "reno" || err != nil {
		t.Errorf("auto: %q, %v", got, err)
	}
	for _, setting := range []string{"", "cubic", "AUTO"} {
		if _, err := CongestionControl(setting); !errors.Is(err, ErrCongestionControl) {
			t.Errorf("%q: %v", setting, err)
		}
	}
}

// Where the system's cannot be found out, it stays: that is no reason not to serve.
func TestCongestionControlThatIsNotKnown(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	// There is no descriptor left to ask with.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	got, err := CongestionControl(CongestionAuto)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
