package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// A catalog stream to which nothing was ever written keeps back no other datacenter,
// unless it is the one that is asked about.
func TestDatacentersOfTheLog(t *testing.T) {
	log := memlog.New(memlog.Options{Seed: 1}).Connect("test")
	if _, err := datacenters(t.Context(), log, ""); !errors.Is(err, bus.ErrNoStream) {
		t.Errorf("of an empty log: %v", err)
	}
	want := func(named string, want ...string) {
		t.Helper()
		if got, err := datacenters(t.Context(), log, named); err != nil || !slices.Equal(got, want) {
			t.Errorf("datacenters %q are %v, %v, want %v", named, got, err, want)
		}
	}
	stream := func(dc string) {
		t.Helper()
		if _, err := log.Create(t.Context(), bus.StreamConfig{Name: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc)}); err != nil {
			t.Fatal(err)
		}
	}
	stream("dc9")
	want("", "dc9")
	stream("dc1")
	if err := log.Publish(t.Context(), isthmusv1.StreamName(isthmusv1.ClassCatalog, "dc1"), bus.Message{Key: isthmusv1.WriterKey()}); err != nil {
		t.Fatal(err)
	}
	want("", "dc1")
	want("DC9", "dc9")
}
