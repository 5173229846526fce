//go:build unix

package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

func TestActivationOfAnotherProcess(t *testing.T) {
	for _, environment := range []map[string]string{{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "", "LISTEN_FDS": "1"}} {
		got, err := activated(func(name string) string { return environment[name] }, 4711, func(uintptr, string) *os.File {
			t.Error("a descriptor was taken")
			return nil
		})
		if got != nil || err != nil {
			t.Errorf("%v gives %v (%v)", environment, got, err)
		}
	}
}

func TestActivationThatIsMalformed(t *testing.T) {
	for _, count := range []string{"", "x", "-1"} {
		environment := map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": count}
		_, err := activated(func(name string) string { return environment[name] }, 4711, os.NewFile)
		if err == nil || !strings.Contains(err.Error(), "LISTEN_FDS") {
			t.Errorf("a count of %q gives %v", count, err)
		}
	}
}

func TestActivationOfWhatIsNoListener(t *testing.T) {
	environment := map[string]string{"LISTEN_PID": "4711", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "gateway"}
	_, err := activated(func(name string) string { return environment[name] }, 4711, func(uintptr, string) *os.File {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		return file
	})
	if err == nil || !strings.Contains(err.Error(), "descriptor 3 (gateway)") {
		t.Errorf("got %v", err)
	}
}

// beActivated makes this test a process that systemd started.
const beActivated = "ISTHMUS_TEST_BE_ACTIVATED"

// A process is started as systemd does it: descriptors from 3 on, and its own id
// in the environment.
func TestActivationOfAProcess(t *testing.T) {
	if os.Getenv(beActivated) != "" {
		activatedProcess(t)
		return
	}
	command := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestActivationOfAProcess$'`, os.Args[0])
	command.Env = append(os.Environ(), beActivated+"=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=one")
	var addresses []string
	for range 2 {
		listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		file, err := listener.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		command.ExtraFiles = append(command.ExtraFiles, file)
		addresses = append(addresses, listener.Addr().String())
	}
	output := make(chan string, 1)
	go func() {
		b, err := command.CombinedOutput()
		if err != nil {
			b = append(b, err.Error()...)
		}
		output <- string(b)
	}()
	for i, want := range []string{"one", "unknown"} {
		c, err := net.Dial("tcp", addresses[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != want {
			t.Errorf("%s says %q (%v); want %q", addresses[i], got, err, want)
		}
		_ = c.Close()
	}
	if got := <-output; !strings.Contains(got, "PASS") {
		t.Errorf("the process says %s", got)
	}
}

// activatedProcess answers one connection on each listener with its name.
func activatedProcess(t *testing.T) {
	listeners, err := activated(os.Getenv, os.Getpid(), os.NewFile)
	if err != nil || len(listeners) != 2 {
		t.Fatalf("%d listeners (%v)", len(listeners), err)
	}
	for _, l := range listeners {
		tcp, err := l.TCP()
		if err != nil {
			t.Fatal(err)
		}
		c, err := tcp.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, l.name)
		_ = c.Close()
		_ = tcp.Close()
		_ = l.Close()
	}
}

// listen is a listener on a free port of an address.
func listen(t *testing.T, address string) *engine.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	adopted, err := engine.Adopt(l.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = adopted.Close() })
	return adopted
}

// A gateway serves what systemd gives it, and binds the rest itself.
func TestGatherTakesWhatSystemdGives(t *testing.T) {
	given, other := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	ofSystemd := []namedListener{{"one", given}, {"two", other}}
	used, err := choose(t.Context(), []string{given.Addr().String(), "127.0.0.1:0"}, nil, ofSystemd)
	if err != nil {
		t.Fatal(err)
	}
	if len(used.use) != 3 || used.use[0].Listener != given || used.use[2].Listener != other || len(used.leave) != 0 {
		t.Errorf("used %v, left %v", used.use, used.leave)
	}
	_ = used.use[1].Close()
}

// The address that is asked for may be written otherwise than the socket's own.
func TestGatherKnowsAnAddressHoweverItIsWritten(t *testing.T) {
	for _, test := range []struct{ bound, wanted string }{
		{"127.0.0.1:0", "localhost:%s"},
		{":0", ":%s"},
		{"[::]:0", "0.0.0.0:%s"},
		{"0.0.0.0:0", ":%s"},
	} {
		given := listen(t, test.bound)
		_, port, _ := net.SplitHostPort(given.Addr().String())
		wanted := fmt.Sprintf(test.wanted, port)
		used, err := choose(t.Context(), []string{wanted}, nil, []namedListener{{"one", given}})
		if err != nil || len(used.use) != 1 || used.use[0].Listener != given {
			t.Errorf("bound %s, wanted %s: used %v (%v)", given.Addr(), wanted, used.use, err)
		}
	}
}

func TestGatherNeedsSomewhereToListen(t *testing.T) {
	if _, err := choose(t.Context(), nil, nil, nil); !errors.Is(err, ErrNoListen) {
		t.Errorf("got %v", err)
	}
}
