package envoy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Command is an Envoy to run.
type Command struct {
	// Binary is its path, as [Find] gives it.
	Binary string
	// Bootstrap is what it starts with, as JSON.
	Bootstrap []byte
	// Args are added to its command line.
	Args []string
	// Stdout and Stderr are where it writes. An *os.File is handed to it as it is.
	Stdout, Stderr io.Writer
	// Signals are those that this process gets, as by [Signals].
	Signals <-chan os.Signal
	// StopWithin is how long it may take to stop once it was told to; then it is killed.
	StopWithin time.Duration
	// Stopping is called once when it is to stop, before it is told; nil: nothing is. Its
	// context ends when somebody cannot wait for it.
	Stopping func(context.Context)
	// DrainWithin is how long callers may take to leave before Envoy is told to stop; 0: it
	// is told at once.
	DrainWithin time.Duration
	// Logger hears of its start and its end; nil: nobody does.
	Logger *slog.Logger
}

// Run runs the Envoy until it ends, and returns the exit status that this process should
// have: its own, or 128 and the number of the signal that killed it. When ctx ends it is
// stopped as by SIGTERM. An error means that it was not started.
func (c Command) Run(ctx context.Context) (status int, err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "isthmus-envoy-")
	if err != nil {
		return 0, fmt.Errorf("directory of the bootstrap: %w", err)
	}
	defer os.RemoveAll(dir)
	bootstrap := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(bootstrap, c.Bootstrap, 0o600); err != nil {
		return 0, fmt.Errorf("bootstrap of Envoy: %w", err)
	}
	args, admin := c.arguments(bootstrap, filepath.Join(dir, "admin"))
	child := exec.Command(c.Binary, args...)
	child.Stdin, child.Stdout, child.Stderr = nil, c.Stdout, c.Stderr
	child.SysProcAttr = attributes()
	// Somebody whom it has started may hold on to its output; that is not waited for.
	child.WaitDelay = outputWithin
	ended, err := start(child)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", c.Binary, err)
	}
	c.Logger.Info("Envoy has started", "pid", child.Process.Pid, "binary", c.Binary)
	a := &accompanied{Command: c, child: child.Process, ended: ended, admin: admin}
	a.follow(ctx)
	status = exitStatus(child.ProcessState)
	c.Logger.Info("Envoy has ended", "state", child.ProcessState.String(), "exit_code", status)
	return status, nil
}

// outputWithin is how long the output of an Envoy that has ended is waited for.
const outputWithin = time.Second

// arguments are Envoy's command line, and the file to which it writes where its admin
// server listens.
func (c Command) arguments(bootstrap, admin string) (args []string, adminFile string) {
	args = []string{"-c", bootstrap}
	named := func(flags ...string) bool {
		return slices.ContainsFunc(c.Args, func(arg string) bool {
			name, _, _ := strings.Cut(arg, "=")
			return slices.Contains(flags, name)
		})
	}
	if !named("--base-id", "--use-dynamic-base-id", "--disable-hot-restart", "--restart-epoch") {
		args = append(args, "--disable-hot-restart")
	}
	const adminPath = "--admin-address-path"
	if !named(adminPath) {
		args = append(args, adminPath, admin)
	}
	for i, arg := range c.Args {
		if path, ok := strings.CutPrefix(arg, adminPath+"="); ok {
			admin = path
		} else if arg == adminPath && i+1 < len(c.Args) {
			admin = c.Args[i+1]
		}
	}
	return append(args, c.Args...), admin
}

// start starts the child; the channel is closed when it has ended.
func start(child *exec.Cmd) (<-chan struct{}, error) {
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel takes the thread that started a child for its parent, so the
		// thread must last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := child.Start()
		started <- err
		if err == nil {
			_ = child.Wait() // Its state says how it ended.
			close(ended)
		}
	}()
	return ended, <-started
}
