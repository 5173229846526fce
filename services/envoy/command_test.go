//go:build unix

package envoy_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/envoy"
)

// The exit status is the child's, or that of the signal that killed it.
func TestExitStatus(t *testing.T) {
	run(t, script(t, "exit 0")).ends(0)
	run(t, script(t, "exit 7")).ends(7)
	run(t, script(t, "kill -KILL $$")).ends(137)
	run(t, script(t, "kill -ABRT $$")).ends(134)
}

// The bootstrap is a file that nobody else may read, and is gone afterwards; what comes
// last on the command line is the user's.
func TestTheCommandLine(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	c := script(t, `echo "$@"; ls -l "$2" | cut -c1-10; ls -ld "$(dirname "$2")" | cut -c1-10; cat "$2"; echo`)
	c.Bootstrap, c.Args = []byte(`{"node": {}}`), []string{"--log-level", "off"}
	got := run(t, c)
	got.ends(0)
	lines := got.lines()
	if !strings.HasPrefix(lines[0], "-c ") || !strings.HasSuffix(lines[0], "/admin --log-level off") || !strings.Contains(lines[0], "bootstrap.json --disable-hot-restart --admin-address-path ") {
		t.Errorf("its arguments: %s", lines[0])
	}
	if lines[1] != "-rw-------" || lines[2] != "drwx------" || lines[3] != `{"node": {}}` {
		t.Errorf("its bootstrap: %q", lines[1:])
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	for _, args := range [][]string{{"--base-id", "3"}, {"--base-id=3"}, {"--disable-hot-restart"}, {"--use-dynamic-base-id"}} {
		c.Args = args
		got := run(t, c)
		got.ends(0)
		if n := strings.Count(got.out.String(), "--disable-hot-restart"); n > 1 || args[0] != "--disable-hot-restart" && n > 0 {
			t.Errorf("with %v: %s", args, got.out)
		}
	}
}

// Signals are passed on. Only those that end a process bring the time of the stop, and
// what is to be done before it, once.
func TestSignalsArePassedOn(t *testing.T) {
	// As Signals does: a child inherits what is ignored, as SIGHUP under nohup, and not what
	// is taken.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGHUP)
	defer signal.Stop(taken)
	stopping := 0
	c := script(t, `
trap 'echo got HUP' HUP
trap 'echo got USR1' USR1
trap 'echo got INT' INT
trap 'echo got TERM; exit 3' TERM
echo ready
while :; do sleep 0.01; done`)
	c.Stopping = func(context.Context) { stopping++ }
	got := run(t, c)
	got.writes("ready")
	for _, s := range []struct {
		signal os.Signal
		says   string
	}{{syscall.SIGHUP, "got HUP"}, {syscall.SIGUSR1, "got USR1"}, {syscall.SIGINT, "got INT"}} {
		got.signals <- s.signal
		got.writes(s.says)
	}
	got.signals <- syscall.SIGTERM
	got.ends(3)
	if stopping != 1 {
		t.Errorf("it was told %d times that it stops", stopping)
	}
}

// A child that will not stop is killed, though something that it has started holds on to
// its output.
func TestAChildThatDoesNotStopIsKilled(t *testing.T) {
	c := script(t, `
trap 'echo no' TERM
sleep 600 &
echo "ready $!"
while :; do sleep 0.01; done`)
	c.StopWithin = 50 * time.Millisecond
	got := run(t, c)
	got.writes("ready")
	t.Cleanup(func() {
		var pid int
		_, rest, _ := strings.Cut(got.out.String(), "ready ")
		for _, digit := range rest {
			if digit < '0' || digit > '9' {
				break
			}
			pid = 10*pid + int(digit-'0')
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // The grandchild.
	})
	got.signals <- syscall.SIGTERM
	got.ends(137)
	if !strings.Contains(got.out.String(), "no") {
		t.Error("it was not asked first")
	}
}

// The end of the context stops it as SIGTERM does.
func TestTheContextEndsIt(t *testing.T) {
	got := run(t, script(t, `trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done`))
	got.writes("ready")
	got.cancel()
	got.ends(9)
}

func TestFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	here := func(name string) string { return map[string]string{envoy.Variable: path}[name] }
	t.Setenv("PATH", filepath.Dir(path))
	for _, find := range []func() (string, error){
		func() (string, error) { return envoy.Find(path, none) },
		func() (string, error) { return envoy.Find("", here) },
		func() (string, error) { return envoy.Find("", none) },
	} {
		if got, err := find(); got != path || err != nil {
			t.Errorf("it is %q, %v", got, err)
		}
	}
	if _, err := envoy.Find("/not/there", here); !errors.Is(err, envoy.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/not/there") {
		t.Errorf("one that is named: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := envoy.Find("", none); !errors.Is(err, envoy.ErrNotFound) || !strings.Contains(err.Error(), "on the PATH") {
		t.Errorf("none on the PATH: %v", err)
	}
	if _, err := (envoy.Command{Binary: "/not/there"}).Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is gone: %v", err)
	}
}

// A real Envoy runs, reopens its logs at SIGUSR1, ends well at SIGTERM, and says by its
// exit code that a bootstrap is wrong.
func TestARealEnvoy(t *testing.T) {
	binary := envoytest.Need(t)
	c := envoy.Command{
		Binary: binary, Args: []string{"--concurrency", "1", "--log-level", "info"},
		Bootstrap: []byte(`{"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}}`),
	}
	got := run(t, c)
	got.writes("starting main dispatch loop")
	got.signals <- syscall.SIGUSR1
	got.writes("SIGUSR1")
	got.signals <- syscall.SIGTERM
	got.writes("ENVOY_SIGTERM")
	got.ends(0)
	c.Bootstrap = []byte(`{"nonsense": 1}`)
	run(t, c).ends(1)
	c.Args = append(c.Args, "--mode", "validate")
	c.Bootstrap = []byte(`{}`)
	run(t, c).ends(0)
}
