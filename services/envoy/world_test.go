package envoy_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/services/envoy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is where a child writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// child is a command that runs in this test.
type child struct {
	t       *testing.T
	signals chan os.Signal
	out     *output
	cancel  context.CancelFunc
	done    chan struct{}
	status  int
	err     error
}

// run runs a command until it ends; the test's end ends it.
func run(t *testing.T, c envoy.Command) *child {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &child{t: t, signals: make(chan os.Signal, 8), out: &output{}, cancel: cancel, done: make(chan struct{})}
	c.Signals, c.Stdout, c.Stderr = out.signals, out.out, out.out
	c.Logger = slog.New(slog.NewTextHandler(out.out, nil))
	if c.StopWithin == 0 {
		c.StopWithin = time.Minute
	}
	go func() {
		defer close(out.done)
		out.status, out.err = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-out.done
	})
	return out
}

// script is a child that is a shell script; it is not an Envoy, and takes its arguments.
func script(t *testing.T, text string) envoy.Command {
	t.Helper()
	path := filepath.Join(t.TempDir(), "child")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return envoy.Command{Binary: path, Bootstrap: []byte("{}")}
}

// await waits until look returns true.
func (c *child) await(what string, look func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !look() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			c.t.Fatalf("%s: not within a minute; it wrote\n%s", what, c.out)
		}
	}
}

// lines are what the child has written, without what is logged about it.
func (c *child) lines() (out []string) {
	for line := range strings.Lines(c.out.String()) {
		if !strings.HasPrefix(line, "time=") {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

// writes waits until the child has written a text.
func (c *child) writes(text string) {
	c.t.Helper()
	c.await("the text "+text, func() bool { return strings.Contains(c.out.String(), text) })
}

// ends waits for the child's end, and wants an exit status.
func (c *child) ends(status int) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		c.t.Fatalf("it does not end; it wrote\n%s", c.out)
	}
	if c.status != status || c.err != nil {
		c.t.Errorf("it ended with %d, %v, and should have with %d; it wrote\n%s", c.status, c.err, status, c.out)
	}
}
