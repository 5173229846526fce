package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/role"
)

// A role says in its log what it waits for, once for each thing, and when it is
// ready.
func TestRolesSayWhatTheyWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		var waits atomic.Value
		waits.Store("CATALOG_dc1: no such stream")
		health := new(role.Health)
		ctx, stop := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- role.Run(ctx, []role.Component{{
				Name:    "resolver dc1",
				Waiting: func() string { return waits.Load().(string) },
				Run: func(ctx context.Context, started func()) error {
					started()
					<-ctx.Done()
					return context.Cause(ctx)
				},
			}}, role.Options{Health: health})
		}()
		announced := make(chan struct{})
		go func() {
			announce(ctx, health, slog.New(slog.NewTextHandler(&said, nil)))
			close(announced)
		}()
		<-time.After(5 * announceEvery)
		waits.Store("CATALOG_dc1: its first fill is not complete")
		<-time.After(5 * announceEvery)
		waits.Store("")
		<-announced
		stop(errors.New("enough"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for part, want := range map[string]int{
			`msg=waiting for="resolver dc1: CATALOG_dc1: no such stream"`: 1, "first fill": 1, "msg=ready": 1, "\n": 3,
		} {
			if got := strings.Count(said.String(), part); got != want {
				t.Errorf("%q said %d times, want %d:\n%s", part, got, want, said.String())
			}
		}
	})
}

// Whatever a role waits for, it says when the bus is what is missing.
func TestWaitingNamesTheBus(t *testing.T) {
	own, away := "ROUTES_dc1: not followed yet", bus.ErrDisconnected.Error()
	p := parts{away: func() string { return away }}
	c := p.aware(role.Component{Waiting: func() string { return own }})
	if got := c.Waiting(); got != "there is no connection to NATS; ROUTES_dc1: not followed yet" {
		t.Errorf("both: %q", got)
	}
	if away = ""; c.Waiting() != own {
		t.Errorf("the bus is there: %q", c.Waiting())
	}
	away, own = "away", ""
	if got := c.Waiting(); got != "" {
		t.Errorf("ready, from what was saved: %q", got)
	}
}
