package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/services/role"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// version is set by the linker in releases.
var version = ""

// app is what every command has: where it writes, its environment, and the
// settings that all commands share.
type app struct {
	stdout, stderr io.Writer
	environment    func(string) string

	settingsFile        string
	logFormat, logLevel string
	// logger is there once the settings are read.
	logger *slog.Logger
}

func newApp(stdout, stderr io.Writer, environment func(string) string) *app {
	return &app{stdout: stdout, stderr: stderr, environment: environment}
}

// finding ends a command with a failure whose words were printed already.
type finding struct{ code int }

func (f finding) Error() string { return fmt.Sprintf("exit code %d", f.code) }

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

// hint is an error with the next step.
type hint struct {
	err  error
	next string
}

func (h hint) Error() string { return h.err.Error() }
func (h hint) Unwrap() error { return h.err }

// main runs a command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	refuseUnknownTopics(root)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	return a.exitCode(command, err)
}

// exitCode is how a command that ended in err ends the process; what has to be
// said about err is said.
func (a *app) exitCode(command *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if f, ok := errors.AsType[finding](err); ok {
		return f.code
	}
	fmt.Fprintf(a.stderr, "isthmus: %v\n", err)
	if next := nextStep(err); next != "" {
		fmt.Fprintf(a.stderr, "next: %s\n", next)
	}
	_, usage := errors.AsType[usageError](err)
	if usage || strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintf(a.stderr, "next: %s --help\n", command.CommandPath())
		return exitUsage
	}
	return exitFailure
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus",
		Short: "Service-mesh traffic between datacenters, decided by a log that can be replayed",
		Long: `Isthmus carries service-mesh traffic between datacenters. Every catalog change is
an event in a NATS JetStream log, and every route is a pure function of that log.

Every flag can also be set by the environment (ISTHMUS_ and the flag's name in
capitals, like ISTHMUS_LOG_LEVEL) or by a file (--settings), in this order.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.settle(cmd)
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{suggestFlag(cmd, err)} })
	flags := root.PersistentFlags()
	flags.StringVar(&a.settingsFile, "settings", "", "file with settings, a line each: flag = value")
	flags.StringVar(&a.logFormat, "log-format", "text", "log as text or json")
	flags.StringVar(&a.logLevel, "log-level", "info", "log from debug, info, warn or error on")
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Start here:"},
		&cobra.Group{ID: "ask", Title: "Ask:"},
		&cobra.Group{ID: "role", Title: "Roles:"},
	)
	a.addCommands(root)
	return root
}

// suggestFlag adds to an unknown flag the one that may be meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if nearest := role.Nearest(unknown.GetSpecifiedName(), names); nearest != "" {
		return fmt.Errorf("%w (did you mean --%s?)", err, nearest)
	}
	return err
}

// refuseUnknownTopics makes cobra's own commands, help and completion, end with an
// error where they would print their help for what there is not.
func refuseUnknownTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return usageError{fmt.Errorf("there is no help on %q", strings.Join(args, " "))}
				}
				return nil
			}
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if len(args) == 0 {
					return nil
				}
				return usageError{fmt.Errorf("there is no completion for %q, wanted: bash, zsh, fish or powershell", strings.Join(args, " "))}
			}
		}
	}
}

// settle gives every flag its value from the environment and the file, and makes
// the logger.
func (a *app) settle(cmd *cobra.Command) error {
	if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
		return nil
	}
	if a.settingsFile == "" {
		a.settingsFile = a.environment(role.EnvironmentName("settings"))
	}
	var file []role.FileSetting
	if a.settingsFile != "" {
		data, err := os.ReadFile(a.settingsFile)
		if err != nil {
			return usageError{fmt.Errorf("settings: %w", err)}
		}
		if file, err = role.ParseSettings(a.settingsFile, data); err != nil {
			return usageError{err}
		}
	}
	var settings []role.Setting
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "settings" || f.Annotations[flagOnly] != nil {
			return
		}
		_, many := f.Value.(pflag.SliceValue)
		settings = append(settings, role.Setting{Name: f.Name, Given: f.Changed, Many: many, Set: func(value string) error {
			f.Changed = true // Whoever asks whether it was set means anywhere.
			return f.Value.Set(value)
		}})
	})
	if err := role.Resolve(settings, a.environment, file); err != nil {
		return usageError{err}
	}
	return a.makeLogger()
}

// flagOnly marks flags that environment and settings do not set.
const flagOnly = "isthmus-flag-only"

// onlyByFlag keeps a flag from the environment and the settings, where its name
// means something else for other commands.
func onlyByFlag(cmd *cobra.Command, name string) {
	_ = cmd.Flags().SetAnnotation(name, flagOnly, []string{""}) // The flag is there.
}

// makeLogger makes the logger that the settings ask for.
func (a *app) makeLogger() error {
	handler, err := role.NewLogHandler(a.stderr, a.logFormat, a.logLevel)
	if err != nil {
		return usageError{err}
	}
	a.logger = slog.New(handler)
	return nil
}

// exactly wants n arguments, and says which.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s given, wanted: %s", arguments(len(args)), what)}
		}
		return nil
	}
}

// arguments counts arguments, in words.
func arguments(n int) string {
	switch n {
	case 0:
		return "no argument"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// between wants at least and at most so many arguments, and says which.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("%s given, wanted: %s", arguments(len(args)), what)}
		}
		return nil
	}
}

// atLeastOne wants one argument or more.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{fmt.Errorf("no argument given, wanted: %s", what)}
		}
		return nil
	}
}

// outputFlag is -o of the commands that print text or JSON.
func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "text", "print text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// asJSON reports whether JSON was asked for.
func asJSON(output string) (bool, error) {
	switch output {
	case "text":
		return false, nil
	case "json":
		return true, nil
	}
	return false, usageError{fmt.Errorf("--output is text or json, not %q", output)}
}
