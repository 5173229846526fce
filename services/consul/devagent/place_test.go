package devagent

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A place is taken by one only, and free again when it is released.
func TestPlaces(t *testing.T) {
	first, err := takePlace(t.Context(), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := takePlace(t.Context(), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if first.at(portHTTP) == second.at(portHTTP) {
		t.Errorf("two agents listen at %s", first.at(portHTTP))
	}
	if _, err := takePlace(t.Context(), second.address); err == nil {
		t.Errorf("%s was taken twice", second.address)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
	again, err := takePlace(t.Context(), second.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*place{first, again} {
		if err := p.release(); err != nil {
			t.Error(err)
		}
	}
}

// Where 127.0.0.1 is the only loopback address, agents differ by their ports.
func TestShiftedPorts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config, err := Config{}.complete()
	if err != nil {
		t.Skip(err) // The tests with agenttest say it aloud, and fail under CI.
	}
	at, err := takeShifted(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAgent(config, at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := a.run(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(a.HTTP, "http://127.0.0.1:85") {
		t.Errorf("it is at %s", a.HTTP)
	}
}
