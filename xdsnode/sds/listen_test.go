package sds_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/xdsnode/sds"
)

// The socket is its user's own, and gone at the end, as are streams of clients that go
// on, and connections that say nothing.
func TestTheSocketIsItsUsersAndGoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "below", "s")
	r := serve(t, socket)
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("%v: %v", info.Mode(), err)
	}
	if dir, err := os.Stat(filepath.Dir(socket)); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("its directory: %v, %v", dir.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(socket), ".s*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	silent, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := r.delta(t)
	c.ask(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{leaf, "other"}})
	c.next()
	if err := r.stop(); !errors.Is(err, errOver) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := c.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is there still: %v", err)
	}
}

// A socket that a dead process has left is replaced; one that is served is not.
func TestWhatIsAtThePath(t *testing.T) {
	socket := newSocket(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	r := serve(t, socket)
	if _, err := sds.Listen(socket); !errors.Is(err, sds.ErrInUse) || !strings.Contains(err.Error(), socket) {
		t.Errorf("one that is served: %v", err)
	}
	c := r.delta(t)
	c.ask(subscribe("other"))
	c.next()

	// What somebody else has put in its place is theirs.
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sds.Listen(socket); !errors.Is(err, sds.ErrNotASocket) {
		t.Errorf("a file: %v", err)
	}
	_ = r.stop()
	if text, err := os.ReadFile(socket); err != nil || string(text) != "text" {
		t.Errorf("the file is %q: %v", text, err)
	}
	if _, err := sds.Listen(filepath.Join(t.TempDir(), strings.Repeat("a", 100))); !errors.Is(err, sds.ErrTooLong) {
		t.Errorf("a long path: %v", err)
	}
}
