package role

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/deploy/onethread"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

// diary notes what components do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, " ")
}

// component starts at once, runs until it is told to stop, and stops at once.
func (d *diary) component(name string, after ...string) Component {
	return Component{Name: name, After: after, Run: func(ctx context.Context, started func()) error {
		d.note("+" + name)
		started()
		<-ctx.Done()
		d.note("-" + name)
		return ctx.Err()
	}}
}

// failing starts, and fails when it is told to.
func (d *diary) failing(name string, fail <-chan error, after ...string) Component {
	return Component{Name: name, After: after, Run: func(ctx context.Context, started func()) error {
		d.note("+" + name)
		started()
		select {
		case err := <-fail:
			d.note("!" + name)
			return err
		case <-ctx.Done():
			d.note("-" + name)
			return nil
		}
	}}
}

func TestOrder(t *testing.T) {
	run := func(context.Context, func()) error { return nil }
	row := func(name string, after ...string) Component { return Component{Name: name, After: after, Run: run} }
	for _, tt := range []struct {
		name  string
		table []Component
		want  string
		err   error
	}{
		{"nothing", nil, "", nil},
		{"as it stands", []Component{row("b"), row("a")}, "b a", nil},
		{"dependencies first", []Component{row("gateway", "bus"), row("bus")}, "bus gateway", nil},
		{"the first in the table of those that may start",
			[]Component{row("x", "c"), row("b"), row("y"), row("c", "b")}, "b y c x", nil},
		{"a diamond", []Component{row("d", "b", "c"), row("c", "a"), row("b", "a"), row("a")}, "a c b d", nil},
		{"no name", []Component{{Run: run}}, "", ErrNoName},
		{"nothing to run", []Component{{Name: "a"}}, "", ErrNoName},
		{"twice", []Component{row("a"), row("a")}, "", ErrSameName},
		{"unknown", []Component{row("a", "b")}, "", ErrUnknownName},
		{"itself", []Component{row("a", "a")}, "", ErrCycle},
		{"a ring", []Component{row("z"), row("a", "b"), row("b", "c"), row("c", "a")}, "", ErrCycle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			order, err := Order(tt.table)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			var names []string
			for _, c := range order {
				names = append(names, c.Name)
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("order %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOrderNamesTheRing(t *testing.T) {
	run := func(context.Context, func()) error { return nil }
	_, err := Order([]Component{{Name: "ok", Run: run}, {Name: "left", After: []string{"right"}, Run: run}, {Name: "right", After: []string{"left"}, Run: run}})
	if err == nil || !strings.Contains(err.Error(), "left, right") || strings.Contains(err.Error(), "ok") {
		t.Errorf("error %v does not name the ring and only it", err)
	}
}

func TestRunStartsInOrderAndStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, []Component{d.component("gateway", "bus", "admin"), d.component("bus"), d.component("admin")}, Options{})
		}()
		synctest.Wait()
		if got := d.text(); got != "+bus +admin +gateway" {
			t.Errorf("started %q", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("a graceful stop returned %v", err)
		}
		if got := d.text(); got != "+bus +admin +gateway -gateway -admin -bus" {
			t.Errorf("in all %q", got)
		}
	})
}

func TestRunWaitsUntilAComponentHasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		bound := make(chan struct{})
		slow := Component{Name: "slow", Run: func(ctx context.Context, started func()) error {
			<-bound
			d.note("bound")
			started()
			started() // A second call does no harm.
			<-ctx.Done()
			return nil
		}}
		done := make(chan error, 1)
		go func() { done <- Run(ctx, []Component{slow, d.component("next")}, Options{}) }()
		synctest.Wait()
		if got := d.text(); got != "" {
			t.Errorf("started before what stands before it: %q", got)
		}
		close(bound)
		synctest.Wait()
		if got := d.text(); got != "bound +next" {
			t.Errorf("got %q", got)
		}
		cancel()
		<-done
	})
}

var errBroken = errors.New("broken")

func TestRunStopsAllAtTheFirstFailure(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"an error", errBroken, errBroken},
		{"an end that nobody asked for", nil, ErrEnded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				fail := make(chan error)
				done := make(chan error, 1)
				go func() {
					done <- Run(t.Context(), []Component{d.component("bus"), d.failing("watcher", fail), d.component("gateway")}, Options{})
				}()
				synctest.Wait()
				fail <- tt.err
				err := <-done
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "watcher: ") {
					t.Errorf("error %v, want the watcher's %v", err, tt.want)
				}
				if got := d.text(); got != "+bus +watcher +gateway !watcher -gateway -bus" {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

func TestRunStopsWhatHasStartedWhenAStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		bad := Component{Name: "bad", Run: func(context.Context, func()) error { return errBroken }}
		err := Run(t.Context(), []Component{d.component("bus"), bad, d.component("never")}, Options{})
		if !errors.Is(err, errBroken) {
			t.Errorf("error %v", err)
		}
		if got := d.text(); got != "+bus -bus" {
			t.Errorf("got %q", got)
		}
	})
}

func TestRunReportsWhatFailsWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		bad := Component{Name: "saver", Run: func(ctx context.Context, started func()) error {
			started()
			<-ctx.Done()
			return errBroken
		}}
		done := make(chan error, 1)
		go func() { done <- Run(ctx, []Component{bad}, Options{}) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "saver") {
			t.Errorf("error %v, want the saver's", err)
		}
	})
}

func TestRunTellsComponentsWhyTheyStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan error)
		var d diary
		var cause error
		observer := Component{Name: "observer", Run: func(ctx context.Context, started func()) error {
			started()
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		}}
		done := make(chan error, 1)
		go func() { done <- Run(t.Context(), []Component{observer, d.failing("watcher", fail)}, Options{}) }()
		synctest.Wait()
		fail <- errBroken
		err := <-done
		if !errors.Is(cause, errBroken) {
			t.Errorf("the cause is %v", cause)
		}
		if strings.Count(err.Error(), "broken") != 1 {
			t.Errorf("the one failure is told more than once: %v", err)
		}
	})
}

func TestRunGivesUpAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stubborn := Component{Name: "stubborn", Run: func(_ context.Context, started func()) error {
			started()
			<-release
			return nil
		}}
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, []Component{d.component("bus"), stubborn}, Options{StopDeadline: 3 * time.Second})
		}()
		synctest.Wait()
		cancel()
		begin := time.Now()
		err := <-done
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("gave up after %v", took)
		}
		if !errors.Is(err, ErrStopDeadline) || !strings.Contains(err.Error(), "stubborn") {
			t.Errorf("error %v does not name who did not stop", err)
		}
		synctest.Wait()
		if got := d.text(); got != "+bus -bus" {
			t.Errorf("the others were not told: %q", got)
		}
		close(release)
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			health  Health
			d       diary
			waiting = "CATALOG_dc1: catching up"
			mu      sync.Mutex
		)
		resolver := d.component("resolver", "bus")
		resolver.Waiting = func() string {
			mu.Lock()
			defer mu.Unlock()
			return waiting
		}
		bound := make(chan struct{})
		bus := Component{Name: "bus", Run: func(ctx context.Context, started func()) error {
			<-bound
			started()
			<-ctx.Done()
			return nil
		}}
		check := func(ready bool, verbose bool, want string) {
			t.Helper()
			synctest.Wait()
			if got := health.Ready(); got != ready {
				t.Errorf("ready: %v", got)
			}
			if got := health.Text(verbose); got != want {
				t.Errorf("text %q, want %q", got, want)
			}
		}
		check(false, false, "not ready\n× nothing has started\n")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Run(ctx, []Component{bus, resolver}, Options{Health: &health}) }()
		check(false, false, "not ready\n× bus: it has not started\n× resolver: it has not started\n")
		close(bound)
		check(false, false, "not ready\n× resolver: CATALOG_dc1: catching up\n")
		check(false, true, "not ready\n√ bus\n× resolver: CATALOG_dc1: catching up\n")
		mu.Lock()
		waiting = ""
		mu.Unlock()
		check(true, false, "ready\n")
		check(true, true, "ready\n√ bus\n√ resolver\n")
		cancel()
		<-done
		check(false, false, "not ready\n× bus: it is stopping\n× resolver: it is stopping\n")
	})
}

func TestNilHealthKeepsNothing(t *testing.T) {
	var health *Health
	if health.Ready() || len(health.States()) != 0 {
		t.Error("a nil Health is ready or has states")
	}
}

func TestOrderIsStable(t *testing.T) {
	var d diary
	table := []Component{d.component("e"), d.component("d", "a"), d.component("c"), d.component("b", "c"), d.component("a")}
	names := func() (out []string) {
		order, err := Order(table)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range order {
			out = append(out, c.Name)
		}
		return out
	}
	first := names()
	for range 100 {
		if again := names(); !slices.Equal(first, again) {
			t.Fatalf("%v, then %v", first, again)
		}
	}
}
