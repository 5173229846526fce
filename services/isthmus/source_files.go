package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bus"
	"github.com/isthmus-mesh/isthmus/bus/memlog"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

// fileFlags name a catalog of files, and what files do not say.
type fileFlags struct {
	catalog, trustDomain, caDir string
}

func (f *fileFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.catalog, "catalog", "", "directory with one directory per datacenter")
	cmd.Flags().StringVar(&f.trustDomain, "trust-domain", "", "trust domain of the catalog; else that of the dev CA")
	cmd.Flags().StringVar(&f.caDir, "ca-dir", "", "directory of PEM files or of the dev CA; else the user's own")
}

// datacenters are the catalog's, for completion: nothing when it cannot be read.
func (f *fileFlags) datacenters() []string {
	loaded, err := file.Load(f.catalog, file.LoadOptions{})
	if err != nil {
		return nil
	}
	return datacenterNames(loaded)
}

func datacenterNames(loaded *file.Loaded) []string {
	names := make([]string, len(loaded.Datacenters))
	for i, d := range loaded.Datacenters {
		names[i] = d.Name
	}
	return names
}

// errBadFiles says that the catalog has errors.
var errBadFiles = errors.New("the catalog has errors")

// read reads the catalog and shows its problems. Possible error: [errBadFiles].
func (f *fileFlags) read(a *app, options file.LoadOptions) (*file.Loaded, error) {
	loaded, err := file.Load(f.catalog, options)
	if err != nil {
		return nil, hint{err, "name the directory that holds one directory per datacenter"}
	}
	for _, problem := range loaded.Problems() {
		fmt.Fprintln(a.stderr, problem)
	}
	switch {
	case loaded.HasErrors():
		return nil, hint{fmt.Errorf("%s: %w", f.catalog, errBadFiles), "correct the lines above"}
	case loaded.Layout != file.LayoutCatalog:
		return nil, notCatalog(f.catalog)
	}
	return loaded, nil
}

// notCatalog is the error of a datacenter's directory where a catalog belongs.
func notCatalog(path string) error {
	return hint{fmt.Errorf("%s is not a catalog but the directory of one datacenter", path), "name the directory above it, which holds one directory per datacenter"}
}

// load publishes the catalog once on a log in memory, and returns the log and
// the datacenters.
func (f *fileFlags) load(ctx context.Context, a *app) (bus.Log, []string, error) {
	dir := f.caDir
	if f.trustDomain != "" {
		dir = "" // Nothing else is wanted of it.
	}
	trust, err := a.openTrust(f.trustDomain, dir)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := f.read(a, file.LoadOptions{TrustDomain: trust.domain})
	if err != nil {
		return nil, nil, err
	}
	log := memlog.New(memlog.Options{})
	for _, d := range loaded.Datacenters {
		if err := publish(ctx, log, d); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return log, datacenterNames(loaded), nil
}

// publish writes a datacenter's values once.
func publish(ctx context.Context, log bus.Log, d file.Datacenter) error {
	writer, err := bus.NewWriter(bus.WriterConfig{
		Log: log, Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, d.Name), Owner: owner() + "/files",
		TakeoverAfter: time.Millisecond, // There is nobody to wait for.
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	notify := writer.Notify()
	running.Go(func() { _ = writer.Run(ctx) }) // It ends with ctx alone.
	for !writer.Active() {
		select {
		case <-notify:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	difference := bus.Difference{Complete: true}
	for _, v := range d.Values {
		difference.Puts = append(difference.Puts, bus.Put{Key: v.Key, Value: v.Value, Source: v.Source})
	}
	_, err = writer.WriteFrom(ctx, func(context.Context) (bus.Difference, error) { return difference, nil })
	return err
}
