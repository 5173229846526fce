package main

import (
	"context"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xdsnode"
	"github.com/isthmus-mesh/isthmus/xdsnode/client"
	"github.com/isthmus-mesh/isthmus/xdsnode/compare"
)

// servedSide is what one side serves to a proxy at a moment.
type servedSide struct {
	set compare.Set
	// whole: nothing is missing.
	whole bool
	// changed is closed when it is another; nil: it stays.
	changed <-chan struct{}
}

// servedByRoutes is what an xds node serves, by routes that were read.
func servedByRoutes(p *xdsnode.Proxy) servedSide {
	set := compare.Set{}
	for _, t := range xdsnode.Types() {
		all := map[string]*anypb.Any{}
		for _, name := range p.Names(t) {
			all[name] = p.Resource(t, name).Body
		}
		set[string(t)] = all
	}
	return servedSide{set: set, whole: true}
}

// asked is a control plane that is asked by its own protocol.
type asked struct{ *client.Client }

// askPlane asks a control plane until ctx ends; done waits for that.
func askPlane(ctx context.Context, config client.Config) (a asked, done func()) {
	a = asked{client.New(config)}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.Run(ctx) // Whoever looks is told.
	}()
	return a, func() {
		stop()
		<-ended
	}
}

// look is what it serves now. Possible error: [client.ErrEnded].
func (a asked) look() (servedSide, error) {
	snapshot, changed := a.Changed()
	return servedSide{set: compare.Set(snapshot.Bodies), whole: snapshot.Complete() && len(snapshot.Listeners) > 0, changed: changed}, a.Ended()
}
