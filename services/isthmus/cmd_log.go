package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/history"
	"github.com/isthmus-mesh/isthmus/services/role"
)

func newLogCommand(a *app) *cobra.Command {
	var (
		flags                   sourceFlags
		follow, repeats, routes bool
		from                    uint64
		key, output             string
	)
	cmd := &cobra.Command{
		Use:   "log",
		Short: "What happened, one event a line",
		Long: `Show the events of the catalogs as sentences: when, in which datacenter, at which
sequence, what changed, and the file and line or the Consul index it was seen at.
With -o json each line is an object.`,
		Example: `  isthmus log --follow
  isthmus log --datacenter dc1 --from 40 --key service-defaults/web
  isthmus log --routes -o json`,
		Args: exactly(0, "only flags"),
	}
	flags.register(a, cmd, false)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	cmd.Flags().BoolVar(&repeats, "repeats", false, "show keyframes too, which repeat what was said")
	cmd.Flags().BoolVar(&routes, "routes", false, "show what the resolvers wrote instead of the catalogs")
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at this sequence of each stream")
	cmd.Flags().StringVar(&key, "key", "", "show only events whose key contains this text")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		lines, err := asJSON(output)
		if err != nil {
			return err
		}
		ctx, stop := role.Signals(cmd.Context())
		defer stop()
		source, err := flags.open(ctx, a)
		if err != nil {
			return err
		}
		defer source.close()
		class := isthmusv1.ClassCatalog
		if routes {
			class = isthmusv1.ClassRoutes
		}
		options := history.LogOptions{Log: source.log, Streams: source.streams(class), From: from, Repeats: repeats, Follow: follow}
		err = history.Log(ctx, options, func(e history.Event) error {
			if !strings.Contains(e.Kind+"/"+e.Key, key) {
				return nil
			}
			if lines {
				return printJSONLine(a.stdout, e)
			}
			_, err := fmt.Fprintln(a.stdout, e.LineIn(time.Local))
			return err
		})
		if follow && ctx.Err() != nil {
			return nil
		}
		return err
	}
	return cmd
}

// streams are the source's of a class.
func (s *source) streams(class isthmusv1.Class) []string {
	names := make([]string, len(s.datacenters))
	for i, d := range s.datacenters {
		names[i] = isthmusv1.StreamName(class, d)
	}
	return names
}

// printJSONLine prints a value for programs that read line by line.
func printJSONLine(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
