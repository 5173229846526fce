package main

import (
	"strings"
	"testing"
)

func TestTheRelayEngineOpensNoConnectionsAhead(t *testing.T) {
	said := &strings.Builder{}
	a := newApp(said, said, func(string) string { return "" })
	status := a.main(t.Context(), []string{"gateway", "--listen", "127.0.0.1:0", "--engine", "relay", "--open-ahead", "1"})
	if status == 0 || !strings.Contains(said.String(), "leave one of --open-ahead and --engine out") {
		t.Errorf("it ends with %d and says %s", status, said)
	}
}
