package main

import (
	"errors"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
)

// A death takes the connections along that are open, and those that wait to be
// accepted; it has a record of each, and of no other. Then the endpoint refuses,
// until it lives again.
func TestADeathHasARecordOfWhatItTookAlong(t *testing.T) {
	m := newEndpoint(freeport.Hold(t).String())
	hello := helloFor(sni("x"))
	for range 3 {
		if err := m.live(); err != nil {
			t.Fatal(err)
		}
		left, err := open(t.Context(), m.address, hello)
		if err != nil {
			t.Fatal(err)
		}
		if err := left.leave(); err != nil {
			t.Fatal(err)
		}
		answered, err := open(t.Context(), m.address, hello)
		if err != nil {
			t.Fatal(err)
		}
		defer answered.Close()
		var begun []*client
		for range 20 {
			c, err := dial(t.Context(), m.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.say(asking(hello, c.first)); err != nil {
				t.Fatal(err)
			}
			begun = append(begun, c)
		}
		if err := m.die(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m.took(left.first) {
			t.Error("it claims a connection that had ended before")
		}
		for _, c := range append(begun, answered) {
			if !m.took(c.first) {
				t.Error("it does not know of a connection that it took along")
			}
		}
		if err := answered.ask(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the answered connection ended with %v", err)
		}
		if _, err := dial(t.Context(), m.address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the dead endpoint answered a dial with %v", err)
		}
	}
}
