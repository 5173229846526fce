//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/freeport"
)

// sayings is a standard error on which lines can be waited for.
type sayings struct {
	mu   sync.Mutex
	text bytes.Buffer
	said chan struct{}
}

func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.said)
	s.said = make(chan struct{})
	return s.text.Write(b)
}

// so returns what was said so far, and a channel that is closed at the next word.
func (s *sayings) so() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.said
}

// commandLine is a command that runs in this process.
type commandLine struct {
	sayings
	stop  context.CancelFunc
	ended chan int
}

func startCommand(t *testing.T, args ...string) *commandLine {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &commandLine{sayings: sayings{said: make(chan struct{})}, stop: stop, ended: make(chan int, 1)}
	home := t.TempDir()
	a := newApp(io.Discard, c, func(name string) string { return map[string]string{"HOME": home}[name] })
	go func() { c.ended <- a.main(ctx, args) }()
	t.Cleanup(stop)
	return c
}

// await waits until the command has said something, and fails if it ends before.
func (c *commandLine) await(t *testing.T, something string) {
	t.Helper()
	for {
		text, more := c.so()
		if strings.Contains(text, something) {
			return
		}
		select {
		case <-more:
		case code := <-c.ended:
			t.Fatalf("it ended with %d before it said %q:\n%s", code, something, text)
		}
	}
}

// The command line that runs is started once more, as it stands: the second
// process takes everything over, the admin address too, and the first ends well.
func TestAGatewayIsHandedOverToTheSameCommandLine(t *testing.T) {
	admin := freeport.Hold(t).String()
	// The path of a socket has a hundred bytes or so.
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	args := []string{
		"gateway", "--catalog", movedCatalog(t), "--datacenter", "dc1", "--trust-domain", "td",
		"--listen", "127.0.0.1:0", "--admin-bind", admin, "--handover", filepath.Join(dir, "socket"),
	}
	first := startCommand(t, args...)
	first.await(t, "gateway serves")
	second := startCommand(t, args...)
	if code := <-first.ended; code != exitOK {
		t.Errorf("the first ended with %d", code)
	}
	if text, _ := first.so(); strings.Contains(text, "level=ERROR") {
		t.Errorf("the first calls its end a failure:\n%s", text)
	}
	second.await(t, "admin server listens")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the second is not ready: %s", response.Status)
	}
	second.stop()
	if code := <-second.ended; code != exitOK {
		t.Errorf("the second ended with %d", code)
	}
}

// Limits that are given are those of the engine.
func TestAGatewayKeepsTheLimitsThatItIsGiven(t *testing.T) {
	var lines sayings
	lines.said = make(chan struct{})
	home := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said := &sayings{said: make(chan struct{})}
	a := newApp(&lines, said, func(name string) string { return map[string]string{"HOME": home}[name] })
	ended := make(chan int, 1)
	go func() {
		ended <- a.main(ctx, []string{
			"gateway", "--catalog", movedCatalog(t), "--datacenter", "dc1", "--trust-domain", "td", "--listen", "127.0.0.1:0",
			"--access-log", "-", "--hello-timeout", "1ms", "--max-connections", "1", "--log-format", "json",
		})
	}()
	address := awaitMatch(t, said, ended, `"addresses":\["([^"]+)"\]`)
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if b, err := io.ReadAll(silent); len(b) != 0 || err != nil {
		t.Errorf("silence is answered %q (%v)", b, err)
	}
	if reason := awaitMatch(t, &lines, ended, `"reason":"([^"]+)"`); reason != "hello_timeout" {
		t.Errorf("the access log says %s", reason)
	}
	stop()
	if code := <-ended; code != exitOK {
		t.Errorf("it ended with %d", code)
	}
}

// awaitMatch waits until something was said that matches, and returns the group.
func awaitMatch(t *testing.T, s *sayings, ended <-chan int, pattern string) string {
	t.Helper()
	for {
		text, more := s.so()
		if found := regexp.MustCompile(pattern).FindStringSubmatch(text); found != nil {
			return found[1]
		}
		select {
		case <-more:
		case code := <-ended:
			t.Fatalf("it ended with %d:\n%s", code, text)
		}
	}
}
