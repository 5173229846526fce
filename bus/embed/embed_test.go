package embed_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bus/embed"
)

// What keeps a server from starting is said, and at once.
func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // Nothing hangs on it.
	port := taken.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		options embed.Options
		want    string
	}{
		{"the port is taken", embed.Options{StoreDir: t.TempDir(), Port: port}, "address already in use"},
		{"the leafnodes' port is taken", embed.Options{StoreDir: t.TempDir(), LeafPort: port}, "address already in use"},
		{"the directory is a file", embed.Options{StoreDir: file}, "storage directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			s, err := embed.Start(test.options)
			if err == nil {
				s.Stop()
				t.Fatal("it started")
			}
			if !errors.Is(err, embed.ErrNotReady) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A cluster listens where it was told, and its ports are looked for there.
func TestAClusterOnAnotherAddress(t *testing.T) {
	host := testHost()
	c, err := embed.StartCluster(3, embed.Options{StoreDir: t.TempDir(), Host: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if n := strings.Count(c.URL(), "nats://"+host+":"); n != 3 {
		t.Errorf("URL %s", c.URL())
	}
	connect(t, c.URL())
}

// testHost is a loopback address of this process alone: whoever connects to
// somewhere leaves from 127.0.0.1, so a port that was given back here stays
// free.
func testHost() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 200+pid>>15&15, pid>>7&255, 1+pid&127)
}
