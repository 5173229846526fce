package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/gateway"
)

// isthmus is the program that all tests run.
var isthmus string

func TestMain(m *testing.M) {
	if addresses := os.Getenv(beBackend); addresses != "" {
		backendMain(addresses)
	}
	dir, err := os.MkdirTemp("", "soak")
	if err == nil {
		isthmus, err = build(context.Background(), dir, "../../services/isthmus")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// eachEngine runs a test for every engine that the gateway has here.
func eachEngine(t *testing.T, test func(t *testing.T, s settings)) {
	for _, engine := range gateway.Engines() {
		t.Run(engine, func(t *testing.T) { test(t, settings{binary: isthmus, engines: []string{engine}}) })
	}
}

// mustHold runs in a world of its own, and wants every verdict to hold.
func mustHold(t *testing.T, s settings, run func(*world) ([]verdict, error)) {
	t.Helper()
	verdicts, err := inWorld(t.Context(), s, run)
	if err != nil {
		t.Error(err)
	}
	if len(verdicts) == 0 {
		t.Error("there is no verdict")
	}
	for _, v := range verdicts {
		t.Log(v)
		if !v.ok {
			t.Error("this does not hold")
		}
	}
}

// The short form of what runs for ten minutes: no connection fails, idle ones
// live, and descriptors come back.
func TestIdleConnectionsWhileOthersComeAndGo(t *testing.T) {
	eachEngine(t, func(t *testing.T, s settings) {
		mustHold(t, s, func(w *world) ([]verdict, error) {
			return soakIdle(t.Context(), w, idleSettings{connections: 500, total: 2000, sample: time.Second}, t.Output())
		})
	})
}

// The short form of 1,000 swaps and 20 hand-overs. Each gateway has another engine
// than the one before, or another number of processors, and the last is like the
// first.
func TestNoRequestFailsThatHasALiveEndpoint(t *testing.T) {
	s := settings{binary: isthmus, engines: gateway.Engines()}
	mustHold(t, s, func(w *world) ([]verdict, error) {
		chaos := chaosSettings{swaps: 80, handovers: 2 * len(s.engines), deaths: 3, flap: 250 * time.Millisecond}
		return soakChaos(t.Context(), w, chaos, t.Output())
	})
}

// Whatever follows what, each kind comes.
func TestKindsOfGateways(t *testing.T) {
	w := &world{engines: []string{"one", "other"}}
	var got []kind
	for number := range 5 {
		got = append(got, w.kind(number))
	}
	if want := []kind{{"one", false}, {"other", false}, {"one", true}, {"other", true}, {"one", false}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	w.engines = nil
	if w.kind(0) != (kind{}) || w.kind(1) != (kind{alone: true}) || w.kind(2) != (kind{}) {
		t.Error("without a choice of engines, there is more than a choice of processors")
	}
}

// A gateway that cuts its connections at a hand-over is found out.
func TestConnectionsThatAreCutAreSeen(t *testing.T) {
	eachEngine(t, func(t *testing.T, s settings) {
		var out strings.Builder
		_, err := inWorld(t.Context(), s, func(w *world) ([]verdict, error) {
			return soakChaos(t.Context(), w, chaosSettings{swaps: 2, handovers: 1, flap: time.Second, drain: time.Nanosecond}, &out)
		})
		if !errors.Is(err, errCut) || !strings.Contains(out.String(), "FAILED") {
			t.Errorf("got %v, and it says\n%s", err, out.String())
		}
	})
}

// A command line that means nothing is refused before anything is started.
func TestSettingsThatMeanNothing(t *testing.T) {
	good := settings{
		idle:  idleSettings{connections: 1, rate: 1, total: 1, sample: time.Second},
		chaos: chaosSettings{swaps: 1, flap: time.Second},
	}
	for name, change := range map[string]func(*settings){
		"-parts":    func(s *settings) { s.parts = []string{"nothing"} },
		"-idle":     func(s *settings) { s.idle.connections = mostIdle + 1 },
		"-duration": func(s *settings) { s.idle.total = 0 },
		"-swaps":    func(s *settings) { s.chaos.swaps = 0 },
		"-flap":     func(s *settings) { s.chaos.flap = 0 },
	} {
		s := good
		change(&s)
		if err := run(t.Context(), s, io.Discard); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
