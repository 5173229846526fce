package table_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// now is when the tests begin.
var now = time.Unix(1_800_000_000, 0)

func endpoint(address string, port, weight uint32) *isthmusv1.Endpoint {
	return &isthmusv1.Endpoint{Address: address, Port: port, Weight: weight, Health: isthmusv1.Health_HEALTH_HEALTHY}
}

func unhealthy(address string, port uint32) *isthmusv1.Endpoint {
	return &isthmusv1.Endpoint{Address: address, Port: port, Weight: 1, Health: isthmusv1.Health_HEALTH_UNHEALTHY}
}

func setOf(endpoints ...*isthmusv1.Endpoint) *table.Set {
	s := table.NewSet(table.Ejection{Failures: 2, Base: time.Second, Max: 4 * time.Second})
	s.Replace(endpoints, nil)
	return s
}

// names is the names of the endpoints of a picker, in its order.
func names(p table.Picker) []string {
	var out []string
	for e := p.Next(); e != nil; e = p.Next() {
		out = append(out, e.Name)
	}
	return out
}

func byName(t *testing.T, s *table.Set, name string) *table.Endpoint {
	t.Helper()
	for _, e := range s.Endpoints() {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no endpoint %s", name)
	return nil
}

func TestPickGivesEachHealthyEndpointOnce(t *testing.T) {
	s := setOf(endpoint("10.0.0.1", 1, 1), unhealthy("10.0.0.2", 1), endpoint("10.0.0.3", 1, 5), endpoint("10.0.0.4", 1, 1))
	for seed := range uint64(100) {
		got := names(s.Pick(seed*0x9e3779b97f4a7c15, now))
		slices.Sort(got)
		if want := []string{"10.0.0.1:1", "10.0.0.3:1", "10.0.0.4:1"}; !slices.Equal(got, want) {
			t.Fatalf("seed %d gives %v; want %v", seed, got, want)
		}
	}
}

func TestPickIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var endpoints []*isthmusv1.Endpoint
		for i := range rapid.IntRange(1, 20).Draw(t, "endpoints") {
			endpoints = append(endpoints, endpoint("10.0.0.1", uint32(i+1), rapid.Uint32Range(1, 128).Draw(t, "weight")))
		}
		random := rapid.Uint64().Draw(t, "random")
		one, two := names(setOf(endpoints...).Pick(random, now)), names(setOf(endpoints...).Pick(random, now))
		if !slices.Equal(one, two) {
			t.Fatalf("%v and then %v", one, two)
		}
		if len(one) != min(len(endpoints), table.MaxAttempts) {
			t.Fatalf("%d endpoints of %d", len(one), len(endpoints))
		}
	})
}

// The share of each endpoint is that of its weight, on the first choice and,
// among the others, on the second.
func TestPickFollowsWeights(t *testing.T) {
	weights := map[string]float64{"10.0.0.1:1": 1, "10.0.0.2:1": 3, "10.0.0.3:1": 6}
	s := setOf(endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 3), endpoint("10.0.0.3", 1, 6))
	const draws = 40000
	first, second := map[string]float64{}, map[string]float64{}
	random := rand.New(rand.NewPCG(1, 2))
	for range draws {
		order := names(s.Pick(random.Uint64(), now))
		first[order[0]]++
		if order[0] == "10.0.0.3:1" {
			second[order[1]]++
		}
	}
	near := func(what string, got, want float64) {
		if math.Abs(got-want) > 0.02 {
			t.Errorf("%s: a share of %.3f; want %.3f", what, got, want)
		}
	}
	for name, weight := range weights {
		near(name+" first", first[name]/draws, weight/10)
	}
	near("10.0.0.2:1 after 10.0.0.3:1", second["10.0.0.2:1"]/first["10.0.0.3:1"], 0.75)
}

func TestPickExtremesOfRandom(t *testing.T) {
	s := setOf(endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1))
	for random, want := range map[uint64]string{
		0: "10.0.0.1:1", math.MaxUint64/2 - 1: "10.0.0.1:1", math.MaxUint64/2 + 1: "10.0.0.2:1", math.MaxUint64: "10.0.0.2:1",
	} {
		if got := names(s.Pick(random, now))[0]; got != want {
			t.Errorf("random %d gives %s; want %s", random, got, want)
		}
	}
}

func TestWhyThereIsNothing(t *testing.T) {
	for _, test := range []struct {
		name      string
		endpoints []*isthmusv1.Endpoint
		want      error
	}{
		{"none", nil, table.ErrEmpty},
		{"all unhealthy", []*isthmusv1.Endpoint{unhealthy("10.0.0.1", 1)}, table.ErrUnhealthy},
		{"a host name not resolved", []*isthmusv1.Endpoint{unhealthy("10.0.0.1", 1), endpoint("gw.example", 1, 1)}, table.ErrUnresolved},
		{"one healthy", []*isthmusv1.Endpoint{unhealthy("10.0.0.1", 1), endpoint("10.0.0.2", 1, 1)}, nil},
		{"health not stated", []*isthmusv1.Endpoint{{Address: "10.0.0.1", Port: 1}}, table.ErrUnhealthy},
		{"no port", []*isthmusv1.Endpoint{endpoint("10.0.0.1", 0, 1)}, table.ErrUnresolved},
		{"a port too big", []*isthmusv1.Endpoint{endpoint("10.0.0.1", 65536, 1)}, table.ErrUnresolved},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := setOf(test.endpoints...)
			if got := s.Why(); !errors.Is(got, test.want) {
				t.Errorf("got %v; want %v", got, test.want)
			}
			if got := len(names(s.Pick(1, now))); (got == 0) != (test.want != nil) {
				t.Errorf("%d endpoints though why is %v", got, test.want)
			}
		})
	}
	if why := table.NewSet(table.Ejection{}).Why(); !errors.Is(why, table.ErrEmpty) {
		t.Errorf("a new set: %v", why)
	}
}

func TestEjection(t *testing.T) {
	s := setOf(endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1))
	one := byName(t, s, "10.0.0.1:1")
	fail := func(at time.Duration, want bool) {
		t.Helper()
		if got := s.Failed(one, now.Add(at)); got != want {
			t.Errorf("at %v: ejected %v; want %v", at, got, want)
		}
	}
	out := func(at time.Duration, want bool) {
		t.Helper()
		live := s.Pick(0, now.Add(at))
		picked := false
		for e := live.NextLive(); e != nil; e = live.NextLive() {
			picked = picked || e == one
		}
		if one.Ejected(now.Add(at)) != want || picked == want {
			t.Errorf("at %v: ejected %v, picked %v; want ejected %v", at, one.Ejected(now.Add(at)), picked, want)
		}
		// It comes last, for when no other answers.
		if all := names(s.Pick(0, now.Add(at))); len(all) != 2 || want && all[1] != one.Name {
			t.Errorf("at %v: the order is %v", at, all)
		}
	}
	fail(0, false)
	out(0, false)
	fail(0, true)
	out(0, true)
	out(time.Second-1, true)
	// A failure of a connection that began before says nothing new.
	fail(time.Second/2, false)
	// After its time it is tried again; one more failure doubles the next.
	out(time.Second, false)
	fail(time.Second, true)
	out(3*time.Second-1, true)
	out(3*time.Second, false)
	fail(3*time.Second, true)
	out(7*time.Second-1, true)
	out(7*time.Second, false)
	// The longest is four seconds.
	fail(7*time.Second, true)
	out(11*time.Second-1, true)
	out(11*time.Second, false)
	// An answer starts everything over.
	s.Connected(one)
	fail(11*time.Second, false)
	fail(11*time.Second, true)
	out(12*time.Second-1, true)
	out(12*time.Second, false)
	if n := one.Counters.Failures.Load(); n != 8 {
		t.Errorf("%d failures counted; want 8", n)
	}
}

func TestAnAnswerEndsAnEjection(t *testing.T) {
	s := setOf(endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1))
	one := byName(t, s, "10.0.0.1:1")
	s.Failed(one, now)
	s.Failed(one, now)
	s.Connected(one)
	if one.Ejected(now) {
		t.Error("it answered and is still ejected")
	}
}

func TestDefaultsOfEjection(t *testing.T) {
	s := table.NewSet(table.Ejection{})
	s.Replace([]*isthmusv1.Endpoint{endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1)}, nil)
	one := s.Endpoints()[0]
	first, second, third := s.Failed(one, now), s.Failed(one, now), s.Failed(one, now)
	if first || second || !third {
		t.Error("the third failure in a row should eject")
	}
	if !one.Ejected(now.Add(time.Second-1)) || one.Ejected(now.Add(time.Second)) {
		t.Error("the first ejection should last a second")
	}
	at := now
	for range 20 {
		at = at.Add(time.Hour)
		s.Failed(one, at)
	}
	if !one.Ejected(at.Add(time.Minute-1)) || one.Ejected(at.Add(time.Minute)) {
		t.Error("the longest ejection should last a minute")
	}
}

func TestTheLastLiveOneIsNeverEjected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 5).Draw(t, "endpoints")
		var endpoints []*isthmusv1.Endpoint
		for i := range count {
			endpoints = append(endpoints, endpoint("10.0.0.1", uint32(i+1), 1))
		}
		s := setOf(endpoints...)
		at := now
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			e := s.Endpoints()[rapid.IntRange(0, count-1).Draw(t, "endpoint")]
			if rapid.Bool().Draw(t, "fails") {
				s.Failed(e, at)
			} else {
				at = at.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			}
			live := slices.ContainsFunc(s.Endpoints(), func(e *table.Endpoint) bool { return !e.Ejected(at) })
			if !live {
				t.Fatal("all are ejected")
			}
		}
	})
}

// When the live ones leave the set, what is left is tried all the same.
func TestAllEjectedByAChangeOfMembers(t *testing.T) {
	a, b, c := endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1), endpoint("10.0.0.3", 1, 1)
	s := setOf(a, b, c)
	for i, name := range []string{"10.0.0.2:1", "10.0.0.1:1"} {
		e := byName(t, s, name)
		at := now.Add(time.Duration(i) * 100 * time.Millisecond)
		s.Failed(e, at)
		s.Failed(e, at)
	}
	s.Replace([]*isthmusv1.Endpoint{a, b}, nil)
	at := now.Add(200 * time.Millisecond)
	if got := names(s.Pick(7, at)); !slices.Equal(got, []string{"10.0.0.2:1", "10.0.0.1:1"}) {
		t.Errorf("picked %v; want first the one whose ejection ends first", got)
	}
}

func TestReplaceKeepsTheStateOfAddresses(t *testing.T) {
	a, b := endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1)
	s := setOf(a, b)
	one := byName(t, s, "10.0.0.1:1")
	one.Counters.Connections.Add(7)
	s.Failed(one, now)
	s.Failed(one, now)
	old := s.Pick(0, now)
	s.Replace([]*isthmusv1.Endpoint{endpoint("10.0.0.3", 1, 1), endpoint("10.0.0.1", 1, 9)}, nil)
	if byName(t, s, "10.0.0.1:1") != one || !one.Ejected(now) || one.Counters.Connections.Load() != 7 {
		t.Error("the endpoint lost its state")
	}
	if got := names(old); !slices.Equal(got, []string{"10.0.0.2:1", "10.0.0.1:1"}) {
		t.Errorf("a choice that had begun gives %v; want the members as they were", got)
	}
}

func TestHostNames(t *testing.T) {
	hosts := map[string][]netip.Addr{
		"gw.example":  {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		"six.example": {netip.MustParseAddr("::ffff:192.0.2.9")},
	}
	s := table.NewSet(table.Ejection{})
	s.Replace([]*isthmusv1.Endpoint{
		endpoint("gw.example", 443, 1), endpoint("192.0.2.50", 443, 1), endpoint("six.example", 443, 2), endpoint("later.example", 443, 1),
	}, func(name string) []netip.Addr { return hosts[name] })
	var got []string
	for _, e := range s.Endpoints() {
		got = append(got, e.Address.String()+" "+e.Name)
	}
	want := []string{
		"192.0.2.1:443 gw.example:443", "192.0.2.2:443 gw.example:443",
		"192.0.2.50:443 192.0.2.50:443", "192.0.2.9:443 six.example:443",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := s.HostNames(); !slices.Equal(got, []string{"gw.example", "later.example", "six.example"}) {
		t.Errorf("host names %q", got)
	}
	// The two addresses share the weight of the one instance.
	if got := s.String(); got != "gw.example:443 (12%), gw.example:443 (12%), 192.0.2.50:443 (25%), six.example:443 (50%)" {
		t.Errorf("shown as %s", got)
	}
}

func TestTwoInstancesAtOneAddress(t *testing.T) {
	s := setOf(endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1), endpoint("10.0.0.1", 1, 2))
	if got := s.String(); got != "10.0.0.1:1 (75%), 10.0.0.2:1 (25%)" {
		t.Errorf("shown as %s", got)
	}
	if got := setOf().String(); got != table.ErrEmpty.Error() {
		t.Errorf("an empty set is shown as %s", got)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	s := setOf(endpoint("10.0.0.1", 1, 1), endpoint("10.0.0.2", 1, 1))
	if n := testing.AllocsPerRun(100, func() {
		p := s.Pick(1, now)
		s.Connected(p.Next())
		p.Next()
	}); n != 0 {
		t.Errorf("%v allocations for one choice", n)
	}
}

// Picking, failing and replacing at once: the race detector watches, and what
// is picked is always a member of before or after.
func TestConcurrentUse(t *testing.T) {
	var groups [2][]*isthmusv1.Endpoint
	for i := range 6 {
		groups[i%2] = append(groups[i%2], endpoint(fmt.Sprintf("10.0.%d.1", i%2), uint32(i+1), 1))
	}
	s := setOf(groups[0]...)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 500 {
				p := s.Pick(uint64(worker*1000+i)<<40, now)
				var seen []string
				for e := p.Next(); e != nil; e = p.Next() {
					seen = append(seen, strings.Split(e.Name, ":")[0])
					if i%3 == 0 {
						s.Failed(e, now)
					} else {
						s.Connected(e)
					}
				}
				if len(slices.Compact(seen)) != 1 {
					t.Errorf("one choice gave %v", seen)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 500 {
			s.Replace(groups[i%2], nil)
		}
	})
	wg.Wait()
}

func BenchmarkPick(b *testing.B) {
	for _, size := range []int{3, 1000} {
		var endpoints []*isthmusv1.Endpoint
		for i := range size {
			endpoints = append(endpoints, endpoint("10.0.0.1", uint32(i+1), 1))
		}
		s := setOf(endpoints...)
		random := rand.New(rand.NewPCG(1, 2))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := s.Pick(random.Uint64(), now)
				p.Next()
			}
		})
	}
}
