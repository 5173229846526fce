package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// in is the environment of a user whose runtime directory is dir.
func in(dir string) func(string) string {
	return func(name string) string {
		if name == "XDG_RUNTIME_DIR" {
			return dir
		}
		return ""
	}
}

func TestDevStateIsFoundWhileItsProcessRuns(t *testing.T) {
	env := in(t.TempDir())
	if _, err := findDev(env); !errors.Is(err, errNoDev) {
		t.Errorf("before: %v", err)
	}
	want := devState{
		PID: os.Getpid(), Started: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), NATS: "nats://127.0.0.1:4222", Catalog: "/c",
		TrustDomain: "td.consul", CADir: "/ca",
		Datacenters: []devDatacenter{{Name: "dc1", Gateways: []devNode{{Name: "n/gw", Address: "127.0.0.1:8443"}}}},
	}
	if err := writeDevState(env, want); err != nil {
		t.Fatal(err)
	}
	got, err := findDev(env)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := removeDevState(env, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if _, err := findDev(env); !errors.Is(err, errNoDev) {
		t.Errorf("after: %v", err)
	}
}

func TestDevStateIsTheUsersOwn(t *testing.T) {
	dir := t.TempDir()
	env := in(dir)
	if err := writeDevState(env, devState{PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "isthmus"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", info.Mode(), err)
	}
	info, err = os.Stat(filepath.Join(dir, "isthmus", devStateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v", info.Mode(), err)
	}
	entries, _ := os.ReadDir(filepath.Join(dir, "isthmus"))
	if len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

// ended is the ID of a process that has run and is gone.
func ended(t *testing.T) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestDevStateOfADeadProcessCountsAsNone(t *testing.T) {
	env := in(t.TempDir())
	gone := ended(t)
	if err := writeDevState(env, devState{PID: gone}); err != nil {
		t.Fatal(err)
	}
	if _, err := findDev(env); !errors.Is(err, errNoDev) {
		t.Errorf("error %v", err)
	}
	if err := writeDevState(env, devState{PID: os.Getpid()}); err != nil {
		t.Errorf("a dead one stands in the way: %v", err)
	}
}

func TestDevStateKeepsOneDev(t *testing.T) {
	env := in(t.TempDir())
	if err := writeDevState(env, devState{PID: os.Getppid()}); err != nil {
		t.Fatal(err)
	}
	if err := writeDevState(env, devState{PID: os.Getpid()}); !errors.Is(err, errDevRuns) {
		t.Errorf("error %v", err)
	}
	if err := removeDevState(env, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if state, err := findDev(env); err != nil || state.PID != os.Getppid() {
		t.Errorf("another's state was taken away: %v", err)
	}
}

func TestDevStateThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "isthmus"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "isthmus", devStateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, env := range []func(string) string{in(dir), in("relative"), in("")} {
		if _, err := findDev(env); !errors.Is(err, errNoDev) {
			t.Errorf("error %v", err)
		}
	}
}

func TestDevStateDirectory(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"/run/isthmus":      {"XDG_RUNTIME_DIR": "/run", "HOME": "/home/u"},
		"/cache/isthmus":    {"XDG_CACHE_HOME": "/cache", "HOME": "/home/u"},
		"/h/.cache/isthmus": {"HOME": "/h", "XDG_RUNTIME_DIR": "not/absolute"},
	} {
		got, err := devStateDir(func(name string) string { return env[name] })
		if err != nil || got != want {
			t.Errorf("%v: %q, %v; want %q", env, got, err, want)
		}
	}
}
