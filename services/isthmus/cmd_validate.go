package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
	"github.com/isthmus-mesh/isthmus/watcher/file"
)

func newValidateCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "validate PATH…",
		Short: "Check files, and print every problem at once",
		Long: `Checks config entries and service definitions in HCL, JSON and YAML.

PATH is a file, a datacenter's directory, or a whole catalog (a directory with
one directory per datacenter). A directory with definitions right in it is a
datacenter's, and so is one with an agent's file below it that names it by
datacenter = "…". Exit code 0: valid, perhaps with warnings;
1: problems were found; 2: a path cannot be read.`,
		Example: `  isthmus validate ./catalog
  isthmus validate web.hcl proxy-defaults.yaml -o json`,
		GroupID: "ask",
		Args:    atLeastOne("PATH…"),
		RunE: func(_ *cobra.Command, args []string) error {
			asked, err := asJSON(output)
			if err != nil {
				return err
			}
			return validate(a, args, asked)
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

func validate(a *app, paths []string, asJSON bool) error {
	problems := []definition.Problem{}
	failed, values := false, 0
	var unread []error
	for _, path := range paths {
		loaded, err := file.Load(path, file.LoadOptions{})
		if err != nil {
			unread = append(unread, err)
			continue
		}
		problems = append(problems, loaded.Problems()...)
		failed = failed || loaded.HasErrors()
		for _, d := range loaded.Datacenters {
			for _, v := range d.Values {
				if v.Source.GetFile() != "" { // The others follow from the layout.
					values++
				}
			}
		}
	}
	if asJSON {
		if err := printJSON(a.stdout, problems); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			fmt.Fprintln(a.stdout, p)
		}
	}
	if len(unread) > 0 {
		return usageError{errors.Join(unread...)}
	}
	if failed {
		return finding{exitFailure}
	}
	if !asJSON {
		fmt.Fprintf(a.stdout, "valid: %s, %s\n", count(values, "value"), count(len(problems), "warning"))
	}
	return nil
}
