package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/services/role"
)

// addCommands is the list of all commands; each has a file of its own.
func (a *app) addCommands(root *cobra.Command) {
	root.AddCommand(
		newDemoCommand(a),
		newDevCommand(a),
		newValidateCommand(a),
		newExplainCommand(a),
		newLogCommand(a),
		newReplayCommand(a),
		newGatewaysCommand(a),
		newProxiesCommand(a),
		newCompareCommand(a),
		newProxyCommand(a),
		newProbeCommand(a),
		newCheckCommand(a),
		newWatcherCommand(a),
		newResolverCommand(a),
		newGatewayCommand(a),
		newSidecarCommand(a),
		newXDSCommand(a),
		newEnvoyCommand(a),
		newSDSCommand(a),
		newBootstrapCommand(a),
		newBusCommand(a),
		newVersionCommand(a),
	)
}

// printJSON prints a value for programs.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func newVersionCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print what this binary was made of",
		Example: "  isthmus version -o json",
		GroupID: "ask",
		Args:    exactly(0, "nothing"),
		RunE: func(*cobra.Command, []string) error {
			build := role.ReadBuild(version)
			if ok, err := asJSON(output); err != nil {
				return err
			} else if ok {
				return printJSON(a.stdout, build)
			}
			_, err := fmt.Fprintf(a.stdout, "isthmus %s, %s, %s\n", build.Version, build.Go, build.Platform)
			return err
		},
	}
	outputFlag(cmd, &output)
	return cmd
}
