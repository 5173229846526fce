package main

import (
	"encoding/json"
	"net"
	"net/http"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/gateway/tally"
)

// countersPath is where an admin server says what its gateways counted.
const countersPath = "/gateways"

// serveCounters adds to a role's admin server what gateways of this process
// counted, and has their reports say where that is. The gateways are asked for
// once the server is bound and for each answer.
func (f *roleFlags) serveCounters(gateways func() []*gateway.Gateway) {
	f.handlers = map[string]http.Handler{"GET " + countersPath: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer := tally.Answer{Gateways: []tally.Gateway{}}
		for _, g := range gateways() {
			answer.Gateways = append(answer.Gateways, g.Counters())
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(answer) // Who has left wants no answer.
	})}
	f.bound = func(address net.Addr) {
		for _, g := range gateways() {
			g.AdminAt(address.String())
		}
	}
}
