package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// binary is the isthmus that all processes run.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "isthmus-e2e-")
	if err == nil {
		binary = filepath.Join(dir, "isthmus")
		build := exec.Command("go", "build", "-o", binary, "../../services/isthmus")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: isthmus was not built:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait for something that must come.
const patience = time.Minute

// lookEvery is how often something is looked at that does not call.
const lookEvery = 5 * time.Millisecond

// await looks until look returns nil, and fails the test with its last error.
func await(t *testing.T, what string, look func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last error
	for {
		err := look(ctx)
		if err == nil {
			return
		}
		if last == nil || ctx.Err() == nil { // That the time is over says less than what was seen before.
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, last)
		}
	}
}

// process is one role as a process of its own.
type process struct {
	name    string
	args    []string
	admin   string
	logFile string
	command *exec.Cmd
	ended   chan error
}

// start runs isthmus with the arguments, and waits until it is ready.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.launch(t)
	p.awaitReady(t)
}

// launch runs isthmus with the arguments. The test's end ends it, and shows what
// it logged if the test failed.
func (p *process) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(p.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(binary, append(p.args, "--admin-bind", p.admin)...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	p.command, p.ended = command, ended
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		if text, err := os.ReadFile(p.logFile); t.Failed() && err == nil {
			t.Logf("%s logged:\n%s", p.name, text[max(0, len(text)-4000):])
		}
	})
}

// awaitReady waits for /readyz of this very process: a successor shares nothing
// with the one before but its arguments.
func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	await(t, p.name+" is not ready", func(ctx context.Context) error {
		if err := p.endedEarly(); err != nil {
			t.Fatalf("%s ended: %v", p.name, err)
		}
		return get(ctx, "http://"+p.admin+"/readyz")
	})
}

func (p *process) endedEarly() error {
	select {
	case err := <-p.ended:
		p.ended <- err
		if err == nil {
			err = errors.New("exit code 0")
		}
		return err
	default:
		return nil
	}
}

func get(ctx context.Context, url string) error {
	_, err := text(ctx, url)
	return err
}

// kill ends the process without a last word.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.command.Process.Kill(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	err := <-p.ended
	p.ended <- err
}

// stop asks the process to end, and wants it to end well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	p.awaitEnd(t)
}

// awaitEnd waits until the process has ended by itself, and ended well.
func (p *process) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		if err != nil {
			t.Fatalf("%s ended with %v", p.name, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.name)
	}
}

// descriptors counts the open ones.
func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
