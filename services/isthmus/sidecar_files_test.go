package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// startRole runs a role's command in this process until the test ends, and
// returns once it says that it serves.
func startRole(t *testing.T, a *app, args ...string) {
	t.Helper()
	said, log := io.Pipe()
	a = newApp(t.Output(), log, a.environment)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		code := a.main(ctx, args)
		log.Close()
		ended <- code
	}()
	serves, heard := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			io.WriteString(t.Output(), lines.Text()+"\n")
			if strings.Contains(lines.Text(), ` serves"`) {
				close(serves)
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-heard
		if code := <-ended; code != exitOK {
			t.Errorf("%v ended with exit code %d", args, code)
		}
	})
	select {
	case <-serves:
	case <-heard:
		t.Fatalf("%v ended before it served", args)
	}
}

// nodeAddress is where a node of a catalog is.
func nodeAddress(t *testing.T, catalog, datacenter, node string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(catalog, datacenter, node, "agent.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`127\.\d+\.\d+\.\d+`).FindString(string(text))
}

// TestSidecarsFromFiles runs two sidecars and a gateway on files alone, with
// certificates of every kind, and a real service behind them.
func TestSidecarsFromFiles(t *testing.T) {
	tests := []struct {
		name string
		// flags say where the certificates of the service come from.
		flags func(t *testing.T, a *app) func(service, datacenter string) []string
	}{
		{"the user's own dev CA", func(*testing.T, *app) func(string, string) []string {
			return func(string, string) []string { return nil }
		}},
		{"a trust domain alone", func(t *testing.T, a *app) func(string, string) []string {
			if _, err := a.openTrust("", ""); err != nil { // The user's own is of another.
				t.Fatal(err)
			}
			return func(string, string) []string { return []string{"--trust-domain", "files.test"} }
		}},
		{"a directory of the dev CA", func(t *testing.T, _ *app) func(string, string) []string {
			dir := filepath.Join(t.TempDir(), "ca")
			return func(string, string) []string { return []string{"--ca-dir", dir, "--trust-domain", "files.test"} }
		}},
		{"directories of certificates", func(t *testing.T, _ *app) func(string, string) []string {
			ca := newCA(t, "files.test")
			return func(service, datacenter string) []string {
				if service == "mesh-gateway" {
					return []string{"--trust-domain", "files.test"}
				}
				return []string{"--ca-dir", layCertificates(t, ca, service, datacenter)}
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, catalog := testApp(t), movedCatalog(t)
			flags := test.flags(t, a)
			run := func(service, datacenter string, args ...string) {
				args = append(args, "--catalog", catalog, "--datacenter", datacenter)
				startRole(t, a, append(args, flags(service, datacenter)...)...)
			}
			apiAddress := nodeAddress(t, catalog, "dc2", "dc2-api-1")
			echoAt(t, net.JoinHostPort(apiAddress, "8080"))
			run("mesh-gateway", "dc2", "gateway",
				"--listen", nodeAddress(t, catalog, "dc2", "dc2-gateway-1")+":8444", "--listen", nodeAddress(t, catalog, "dc2", "dc2-gateway-2")+":8444")
			run("api", "dc2", "sidecar", "--for", "dc2-api-1/api-sidecar-proxy")
			run("web", "dc1", "sidecar", "--for", "web-sidecar-proxy")

			conn, err := net.Dial("tcp", nodeAddress(t, catalog, "dc1", "dc1-web-1")+":10000")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "hello"); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(conn); string(answer) != "hello" || err != nil {
				t.Errorf("got %q, %v", answer, err)
			}
		})
	}
}

// echoAt answers what it is told, until the test ends.
func echoAt(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
}
