package main

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/envoy"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/resolver"
	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/bootstrap"
	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// nextSteps is what to do about the errors that packages state.
var nextSteps = []struct {
	err  error
	next string
}{
	{bus.ErrDisconnected, "see that a NATS server runs at the URL of --nats"},
	{bus.ErrNoStream, "start a watcher for the datacenter, or name another one with --datacenter"},
	{bus.ErrNotRetained, `ask for a later sequence; "isthmus log" shows what is there`},
	{bus.ErrNotYet, `ask for an earlier sequence; "isthmus log" shows what is there`},
	{bus.ErrIncarnation, "the stream was deleted and made again: ask for sequences of the present one"},
	{bus.ErrOldRules, "a newer Isthmus has written the routes: upgrade this one"},
	{history.ErrNothingRecorded, "let a resolver of this version run once, then replay"},
	{resolver.ErrNotWhole, "let the datacenter's watcher publish its catalog, with --trust-domain for files"},
	{resolver.ErrUnknownUpstream, "name one of those, or leave it out for all of them"},
	{resolver.ErrUnknownProxy, "name one of those, or ask in another datacenter with --datacenter"},
	{resolver.ErrAmbiguousProxy, "name one as NODE/ID"},
	{xdsnode.ErrNoProxy, `see "isthmus proxies" for those that there are, or ask in another datacenter with --datacenter`},
	{xdsnode.ErrAmbiguous, "name one as NODE/ID"},
	{identity.ErrMismatch, "leave --trust-domain out, or name another --ca-dir"},
	{identity.ErrTrustDomain, "name one like 11111111-2222-3333-4444-555555555555.consul"},
	{envoy.ErrNotFound, "install Envoy 1.36 or newer, or name its binary with --envoy-binary or ISTHMUS_ENVOY"},
	{sds.ErrInUse, "end that process, or give another --socket"},
	{sds.ErrNotASocket, "take it away, or give another --socket"},
	{sds.ErrTooLong, "give a shorter --socket"},
	{bootstrap.ErrNoTrust, "give --datacenter and --trust-domain, or no --sds"},
	{bootstrap.ErrNoAdmin, "give --admin-bind"},
	{bootstrap.ErrTemplate, "deploy/docs/envoy.md lists what a template is given"},
	{context.DeadlineExceeded, "see that NATS and the datacenter's watcher run"},
}

// nextStep is the next step after an error: its own hint, else the one of the
// sentinel that it wraps; nothing when there is none.
func nextStep(err error) string {
	if h, ok := errors.AsType[hint](err); ok {
		return h.next
	}
	for _, s := range nextSteps {
		if errors.Is(err, s.err) {
			return s.next
		}
	}
	return ""
}
