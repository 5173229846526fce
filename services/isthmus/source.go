package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
)

// askTimeout is how long a command that asks waits for the bus.
const askTimeout = 10 * time.Second

// source is the log that a command asks.
type source struct {
	log bus.Log
	// datacenters that the question is about.
	datacenters []string
	// dev is the running dev that was found; nil when a flag named the source.
	dev *devState
	// kept: others keep the log up to date; files were read just now.
	kept  bool
	close func()
}

// sourceFlags say whom a command asks: files, a NATS server, or a running dev.
type sourceFlags struct {
	bus         busFlags
	datacenter  string
	files       fileFlags
	acceptFiles bool
}

// register adds the flags to a command that asks.
func (f *sourceFlags) register(a *app, cmd *cobra.Command, acceptFiles bool) {
	cmd.GroupID = "ask"
	f.bus.register(cmd)
	f.acceptFiles = acceptFiles
	cmd.Flags().StringVar(&f.datacenter, "datacenter", "", "ask about this datacenter only")
	_ = cmd.RegisterFlagCompletionFunc("datacenter", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return f.completeDatacenters(a), cobra.ShellCompDirectiveNoFileComp
	})
	if acceptFiles {
		f.files.register(cmd)
	}
}

// open opens the source. Without flags a running dev is asked.
func (f *sourceFlags) open(ctx context.Context, a *app) (*source, error) {
	switch {
	case f.files.catalog != "" && f.bus.url != "":
		return nil, usageError{errors.New("--catalog and --nats (perhaps from ISTHMUS_NATS) exclude each other: ask either the files or the log")}
	case f.files.catalog != "":
		return f.openFiles(ctx, a)
	}
	s := &source{}
	if f.bus.url == "" {
		dev, err := findDev(a.environment)
		if err != nil {
			step := `start "isthmus dev", or name a server with --nats`
			if f.acceptFiles {
				step += " or files with --catalog"
			}
			return nil, hint{err, step}
		}
		s.dev, f.bus.url = &dev, dev.NATS
	}
	log, err := f.bus.connect(a, "isthmus")
	if err != nil {
		return nil, err
	}
	s.log, s.close, s.kept = log, log.Close, true
	if s.datacenters, err = datacenters(ctx, log, f.datacenter); err != nil {
		log.Close()
		return nil, err
	}
	return s, nil
}

func (f *sourceFlags) openFiles(ctx context.Context, a *app) (*source, error) {
	log, names, err := f.files.load(ctx, a)
	if err != nil {
		return nil, err
	}
	if f.datacenter != "" {
		if names, err = pick(names, f.datacenter); err != nil {
			return nil, err
		}
	}
	return &source{log: log, datacenters: names, close: func() {}}, nil
}

// datacenters are those whose catalogs are in the log, or the one that is named. A
// stream to which nothing was ever written says nothing of its datacenter, and would
// keep back the others; it counts where it is named, or the only one.
func datacenters(ctx context.Context, log bus.Log, named string) ([]string, error) {
	streams, err := history.Streams(ctx, log, isthmusv1.ClassCatalog)
	if err != nil {
		return nil, err
	}
	var names, filled []string
	for _, stream := range streams {
		_, name, _ := isthmusv1.ParseStreamName(stream)
		names = append(names, name)
		if state, err := log.State(ctx, stream); err != nil || state.Last > 0 {
			filled = append(filled, name)
		}
	}
	switch {
	case named != "":
		return pick(names, named)
	case len(filled) > 0:
		return filled, nil
	}
	return names, nil
}

// pick finds one datacenter among those that there are.
func pick(names []string, name string) ([]string, error) {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return []string{n}, nil
		}
	}
	return nil, hint{fmt.Errorf("there is no datacenter %q", name), "name one of " + strings.Join(names, ", ")}
}

// completeDatacenters offers the datacenters of the source to the shell.
func (f *sourceFlags) completeDatacenters(a *app) []string {
	if f.files.catalog != "" {
		return f.files.datacenters()
	}
	dev, err := findDev(a.environment)
	if f.bus.url != "" || err != nil {
		return nil
	}
	names := make([]string, len(dev.Datacenters))
	for i, d := range dev.Datacenters {
		names[i] = d.Name
	}
	return names
}
