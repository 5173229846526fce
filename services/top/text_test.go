package top

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

var update = flag.Bool("update", false, "write the golden files anew; read what changed before you commit it")

const trustDomain = ".internal.11111111-2222-3333-4444-555555555555.consul"

// busy is a gateway so long after its start, whose counters grow with that.
func busy(datacenter, name string, after time.Duration) Reading {
	n := uint64(after / time.Second)
	r := admin(after, 1234*n,
		tally.Route{
			Name: "api.default.dc1" + trustDomain, Connections: 1200 * n, Open: 37, Failures: 2 * n, ConnectFailures: 5 * n,
			BytesIn: 1_500_000 * n, BytesOut: 3_200_000_000 * n, Live: 2, EjectedCount: 1, Ejected: []string{"10.0.0.3:8080"},
		},
		tally.Route{Name: "*.dc2" + trustDomain, Connections: 30 * n, BytesIn: 900 * n, BytesOut: 12_345 * n, Live: 2},
		tally.Route{Name: "db.default.dc1" + trustDomain, Connections: 7, Failures: 9, EjectedCount: 22, Ejected: []string{"10.0.0.7:5432", "10.0.0.8:5432"}},
	)
	r.Datacenter, r.Name = datacenter, name
	r.Open, r.BytesIn, r.BytesOut = 37, 1_500_900*n, 3_200_012_345*n
	r.Refused = map[string]uint64{"unknown_name": 40 * n, "no_endpoint": 9, "hello_timeout": 9}
	return r
}

// byReport is a gateway whose admin server is not reached.
func byReport(datacenter, name string, after time.Duration) Reading {
	r := busy(datacenter, name, after)
	r.From, r.Started, r.Refused, r.Refusals = FromReport, time.Time{}, nil, 40
	r.Age, r.Trouble = 3210*time.Millisecond, "127.0.0.1:9500: connection refused; its report has up to 50 routes, without what is open, refused or ejected"
	for i := range r.Routes {
		route := &r.Routes[i]
		*route = tally.Route{Name: route.Name, Connections: route.Connections, BytesIn: route.BytesIn, BytesOut: route.BytesOut}
	}
	return r
}

// frame is what two rounds of readings give.
func frame(state State, readings func(after time.Duration) []Reading) Frame {
	state.Take(start, readings(time.Minute))
	f := state.Take(start.Add(2*time.Second), readings(62*time.Second))
	f.Arrange(ByConnections, 0)
	return f
}

func TestText(t *testing.T) {
	one := func(after time.Duration) []Reading { return []Reading{busy("dc1", "gw1", after)} }
	several := func(after time.Duration) []Reading {
		silent := Reading{From: FromNowhere, Trouble: "no report for 10m0s; it has no admin server (--admin-bind)"}
		silent.Datacenter, silent.Name = "dc2", "gw4"
		return []Reading{busy("dc1", "gw1", after), byReport("dc1", "gw2", after), busy("dc2", "gw3", after), silent}
	}
	saved := func(after time.Duration) []Reading {
		r := admin(after, 0)
		r.State, r.SavedTableAge = "serving saved table", 3725.04
		r.Name = "a name\x1b[2J with\r\ncontrols\u202e"
		return []Reading{r}
	}
	away := frame(State{}, saved)
	away.Trouble = "not connected to the bus"
	limited := frame(State{}, one)
	limited.Arrange(ByConnections, 1)
	first := new(State).Take(start, one(time.Minute))
	for _, tt := range []struct {
		name  string
		frame Frame
		size  Size
	}{
		{"one", frame(State{}, one), Size{}},
		{"first", first, Size{}},
		{"several", frame(State{}, several), Size{}},
		{"by-gateway", frame(State{ByGateway: true}, several), Size{}},
		{"limited", limited, Size{}},
		{"saved", away, Size{}},
		{"nothing", new(State).Take(start, nil), Size{}},
		{"terminal", frame(State{}, one), Size{Width: 100, Height: 8}},
		{"narrow", frame(State{}, several), Size{Width: 60, Height: 40}},
		{"tiny", frame(State{}, several), Size{Width: 20, Height: 5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.frame.Text(tt.size)
			golden(t, tt.name, got)
			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if tt.size.Height > 0 && len(lines) > tt.size.Height {
				t.Errorf("%d lines in %d", len(lines), tt.size.Height)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); tt.size.Width > 0 && n > tt.size.Width {
					t.Errorf("%d characters in %d: %q", n, tt.size.Width, line)
				}
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it is\n%s\nand was to be\n%s", got, want)
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		rate           float64
		number, volume string
	}{
		{0, "0.0", "0 B"}, {0.04, "0.0", "0 B"}, {999.4, "999.4", "999 B"}, {999.7, "999.7", "1.0 kB"}, {1234, "1234", "1.2 kB"},
		{999_600, "999600", "1.0 MB"}, {3.2e9, "3200000000", "3.2 GB"}, {5e12, "5000000000000", "5.0 TB"},
	} {
		if n, b := perSecond(&tt.rate), bytesPerSecond(&tt.rate); n != tt.number || b != tt.volume {
			t.Errorf("%v is %s, %s; want %s, %s", tt.rate, n, b, tt.number, tt.volume)
		}
	}
}
