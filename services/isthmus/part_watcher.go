package main

import (
	"context"
	"errors"
	"sync"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/identity"
	"github.com/isthmus-mesh/isthmus/services/role"
	"github.com/isthmus-mesh/isthmus/watcher"
	consulsource "github.com/isthmus-mesh/isthmus/watcher/consul"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

// watcherSettings are those of a watcher on a directory, or on Consul.
type watcherSettings struct {
	datacenter string
	// consul is the agent of the datacenter; nil: the catalog is a directory.
	consul *consul.Client
	// catalog is the directory with one directory per datacenter.
	catalog     string
	trustDomain string
	// ca gives the roots that are published; nil: none are.
	ca *identity.DevCA
	// replicas of the stream.
	replicas int
}

// watcherPart keeps CATALOG_<dc> equal to a directory, or to a Consul datacenter.
func watcherPart(p parts, s watcherSettings) (role.Component, error) {
	p = p.in("watcher", s.datacenter, "")
	if s.consul != nil {
		return consulWatcherPart(p, s)
	}
	options := file.Options{Catalog: s.catalog, Datacenter: s.datacenter, TrustDomain: s.trustDomain, Logger: p.logger}
	if s.ca != nil {
		options.Roots = s.ca.CARoots()
	}
	source, err := file.New(options)
	if err != nil {
		return role.Component{}, err
	}
	var beside []func(context.Context) error
	if s.ca != nil {
		beside = append(beside, func(ctx context.Context) error { return s.ca.FollowRoots(ctx, source.SetRoots) })
	}
	return watcherOf(p, s, source, beside...)
}

// consulWatcherPart keeps CATALOG_<dc> equal to a Consul datacenter.
func consulWatcherPart(p parts, s watcherSettings) (role.Component, error) {
	source, err := consulsource.New(consulsource.Options{Client: s.consul, Datacenter: s.datacenter, Logger: p.logger})
	if err != nil {
		return role.Component{}, err
	}
	return watcherOf(p, s, source)
}

// watcherOf keeps CATALOG_<dc> equal to a source, with what runs beside it.
func watcherOf(p parts, s watcherSettings, source watcher.Source, beside ...func(context.Context) error) (role.Component, error) {
	w, err := watcher.New(watcher.Config{
		Datacenter: s.datacenter,
		Source:     source,
		Writer:     bus.WriterConfig{Log: p.log, Owner: p.owner, Replicas: s.replicas, Logger: p.logger},
		Logger:     p.logger,
		Registerer: p.registerer,
	})
	if err != nil {
		return role.Component{}, err
	}
	return p.aware(role.Component{
		Name:    "watcher " + s.datacenter,
		Waiting: waiting(w.Ready),
		Run: func(ctx context.Context, started func()) error {
			started()
			return together(ctx, append(beside, w.Run)...)
		},
	}), nil
}

// together runs functions until one of them ends, stops the others, and
// returns what they returned, the first first.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
	)
	for _, run := range runs {
		group.Go(func() {
			err := run(ctx)
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil || !errors.Is(err, context.Cause(ctx)) {
				errs = append(errs, err)
			}
			cancel(err)
		})
	}
	group.Wait()
	if len(errs) == 0 {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}
