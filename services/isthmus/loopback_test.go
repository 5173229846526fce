package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// placed is a world of the built-in catalog, as dev and demo make it.
func placed(t *testing.T) *world {
	t.Helper()
	ca, err := identity.NewDevCA(identity.DevCAConfig{})
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(io.Discard, t.Output(), func(string) string { return "" })
	a.logger = slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	w, err := newBuiltInWorld(a, filepath.Join(dir, "catalog"), dir, ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

// Two demos, or a demo and a dev, may run at once: each has addresses of its own.
func TestBuiltInWorldsDoNotMeet(t *testing.T) {
	first, second := placed(t), placed(t)
	for _, address := range second.addresses() {
		if slices.Contains(first.addresses(), address) {
			t.Errorf("both use %s", address)
		}
	}
	if len(first.addresses()) != len(second.addresses()) || len(first.addresses()) < 20 {
		t.Errorf("%d and %d addresses", len(first.addresses()), len(second.addresses()))
	}
}

// Addresses that a stranger holds are passed over.
func TestBuiltInWorldPassesOverTakenAddresses(t *testing.T) {
	w := placed(t)
	held := w.addresses()[0]
	w.close()
	stranger, err := net.Listen("tcp", held)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if next := placed(t); slices.Contains(next.addresses(), held) {
		t.Errorf("%s is used, which is taken", held)
	}
}

// A catalog of the user's own is not moved: what is taken is named.
func TestOwnCatalogOnTakenAddressesIsRefused(t *testing.T) {
	catalog := movedCatalog(t)
	data, err := os.ReadFile(filepath.Join(catalog, "dc2", "dc2-api-1", "agent.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	address := strings.Split(string(data), `"`)[3] + ":8080"
	stranger, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	home := t.TempDir()
	var said output
	for _, command := range []string{"dev", "demo"} {
		a := newApp(io.Discard, &said, in(home))
		if code := a.main(t.Context(), []string{command, "--catalog", catalog, "--ca-dir", home}[:3]); code != exitFailure {
			t.Errorf("%s: exit code %d", command, code)
		}
	}
	if got := strings.Count(said.String(), address+": "+syscall.EADDRINUSE.Error()); got != 2 || strings.Count(said.String(), "next: ") != 2 {
		t.Errorf("said:\n%s", said.String())
	}
	if _, err := findDev(in(home)); !errors.Is(err, errNoDev) {
		t.Errorf("a dev is found: %v", err)
	}
}
