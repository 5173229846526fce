//go:build unix

package envoy_test

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/envoy"
)

const stops = "ENVOY_SIGTERM"

// Callers are asked to leave, and lose no request; new ones are served until they know
// better. The application's own connections, and those of who reads numbers, are not
// waited for.
func TestCallersLeaveBeforeEnvoyStops(t *testing.T) {
	s := serve(t, envoy.Command{}, tcpAdmin())
	caller, application, numbers := s.client(), s.client(), s.client()
	for range 2 {
		if leave, _ := caller(s.requests); leave {
			t.Fatal("a caller is asked to leave while nothing stops")
		}
		application(s.upstream)
		numbers(s.stats)
	}
	s.signals <- syscall.SIGTERM
	s.await("a caller to be asked to leave", func() bool {
		leave, connections := caller(s.requests)
		if connections > 1 {
			t.Fatal("the connection ended before its caller was asked to leave")
		}
		return leave
	})
	for range 3 {
		if leave, _ := s.client()(s.requests); !leave {
			t.Error("a new caller is not asked to leave")
		}
		application(s.upstream)
	}
	numbers(s.stats)
	s.ends(0)
	s.wantOrder("Envoy drains", "Envoy is drained", stops)
}

// Whoever does not leave is cut off when the time is over, and not before.
func TestTheEndOfTheDrainTime(t *testing.T) {
	s := serve(t, envoy.Command{DrainWithin: 500 * time.Millisecond}, tcpAdmin())
	caller := s.connect(s.bytes)
	s.wantEcho(caller)
	s.signals <- syscall.SIGINT
	s.writes("Envoy drains\" open_connections=1")
	s.wantEcho(caller)
	if _, err := caller.Read(make([]byte, 1)); err == nil {
		t.Error("something came")
	}
	s.ends(0)
	s.wantOrder("Envoy drains", "the drain is over", "open_connections=1")
}

// A second signal waits for nobody; nor does it for what is done before the drain.
func TestTheSecondSignal(t *testing.T) {
	s := serve(t, envoy.Command{DrainWithin: time.Hour}, tcpAdmin())
	s.wantEcho(s.connect(s.bytes))
	s.signals <- syscall.SIGTERM
	s.writes("open_connections=1")
	s.signals <- syscall.SIGINT
	s.ends(0)

	s = serve(t, envoy.Command{DrainWithin: time.Hour, Stopping: func(hurry context.Context) { <-hurry.Done() }}, tcpAdmin())
	s.signals <- syscall.SIGTERM
	s.signals <- syscall.SIGTERM
	s.ends(0)
	if strings.Contains(s.out.String(), "open_connections") {
		t.Errorf("it has drained nevertheless:\n%s", s.out)
	}
}

// The registration is taken back before callers are asked to leave.
func TestWhatComesBeforeTheDrain(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, envoy.Command{Stopping: func(context.Context) {
		close(begun)
		<-goOn
	}}, tcpAdmin())
	caller := s.client()
	s.signals <- syscall.SIGTERM
	<-begun
	if leave, _ := caller(s.requests); leave {
		t.Error("callers are asked to leave before")
	}
	close(goOn)
	s.await("a caller to be asked to leave", func() bool {
		leave, _ := caller(s.requests)
		return leave
	})
	s.ends(0)
	s.wantOrder("Envoy is drained", stops)
}

// An Envoy whose admin server answers no more is told, and then killed.
func TestAnEnvoyThatHangs(t *testing.T) {
	s := serve(t, envoy.Command{DrainWithin: 200 * time.Millisecond, StopWithin: 50 * time.Millisecond}, tcpAdmin())
	_, rest, _ := strings.Cut(s.out.String(), "pid=")
	number, _, _ := strings.Cut(rest, " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM
	s.ends(137)
	s.wantOrder("Envoy cannot be drained", "is killed")
}

// An admin server may be a socket; where there is none, or no time, Envoy is told at once.
func TestWhereNothingCanBeDrained(t *testing.T) {
	s := serve(t, envoy.Command{}, fields{"pipe": fields{"path": filepath.Join(t.TempDir(), "admin.sock")}})
	s.signals <- syscall.SIGTERM
	s.ends(0)
	s.wantOrder("Envoy is drained", stops)

	s = serve(t, envoy.Command{}, nil)
	caller := s.connect(s.bytes)
	s.wantEcho(caller)
	s.signals <- syscall.SIGTERM
	if rest, err := io.ReadAll(caller); len(rest) > 0 {
		t.Errorf("%q, %v came", rest, err)
	}
	s.ends(0)
	s.wantOrder("Envoy has no admin address", stops)

	s = serve(t, envoy.Command{DrainWithin: -1}, tcpAdmin())
	s.wantEcho(s.connect(s.bytes))
	s.signals <- syscall.SIGTERM
	s.ends(0)
	s.wantOrder("the drain time is 0", stops)
}

// The context's end drains as a signal does, and is none: it cuts nothing short.
func TestTheContextEndsItWithADrain(t *testing.T) {
	s := serve(t, envoy.Command{}, tcpAdmin())
	caller := s.connect(s.bytes)
	s.wantEcho(caller)
	s.signals <- syscall.SIGTERM
	s.writes("open_connections=1")
	s.cancel()
	s.wantEcho(caller)
	caller.Close()
	s.ends(0)
	s.wantOrder("Envoy is drained", stops)
}
