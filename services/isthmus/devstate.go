package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// devState is where a running `isthmus dev` can be found: a small file in a
// directory of the user's own, so that other commands need no flags.
type devState struct {
	// PID of the process that runs; Started is when.
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// NATS is the URL of its embedded server.
	NATS string `json:"nats"`
	// Catalog is the directory that its watchers follow.
	Catalog string `json:"catalog"`
	// TrustDomain and CADir are those of its dev CA.
	TrustDomain string `json:"trust_domain"`
	CADir       string `json:"ca_dir"`
	// Datacenters in the order of their names.
	Datacenters []devDatacenter `json:"datacenters"`
}

// devDatacenter is one datacenter of a running dev.
type devDatacenter struct {
	Name string `json:"name"`
	// Gateways and sidecars that run, with their admin servers.
	Gateways []devNode `json:"gateways"`
	Sidecars []devNode `json:"sidecars"`
}

// devNode is one gateway or sidecar of a running dev.
type devNode struct {
	// Name is NODE/ID.
	Name string `json:"name"`
	// Address is where it accepts mTLS, Admin its admin server.
	Address string `json:"address"`
	Admin   string `json:"admin,omitzero"`
}

var (
	// errNoDev says that no dev of this user runs.
	errNoDev = errors.New("no isthmus dev is running")
	// errDevRuns says that one runs already.
	errDevRuns = errors.New("an isthmus dev is running already")
)

// devStateDir is the directory of the file: $XDG_RUNTIME_DIR/isthmus, which
// ends with the session, else one in the user's cache. Neither is shared with
// other users, so nobody else can point our commands at a server of theirs.
func devStateDir(getenv func(string) string) (string, error) {
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "isthmus"), nil
	}
	for _, base := range []struct{ variable, below string }{{"XDG_CACHE_HOME", ""}, {"HOME", ".cache"}} {
		if dir := getenv(base.variable); filepath.IsAbs(dir) {
			return filepath.Join(dir, base.below, "isthmus"), nil
		}
	}
	return "", errors.New("the user has no directory for running programs: neither XDG_RUNTIME_DIR, XDG_CACHE_HOME nor HOME is set")
}

// devStateFile is the file's name in its directory.
const devStateFile = "dev.json"

// writeDevState says where this dev is. The file appears whole or not at all.
// Possible error: [errDevRuns].
func writeDevState(getenv func(string) string, state devState) error {
	if running, err := findDev(getenv); err == nil && running.PID != state.PID {
		return fmt.Errorf("%w, as process %d", errDevRuns, running.PID)
	}
	dir, err := devStateDir(getenv)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(dir, ".dev-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(append(data, '\n'))
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(dir, devStateFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

// findDev finds a running dev of this user. A file whose process is gone counts
// as none. Possible error: [errNoDev].
func findDev(getenv func(string) string) (devState, error) {
	dir, err := devStateDir(getenv)
	if err != nil {
		return devState{}, fmt.Errorf("%w: %w", errNoDev, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, devStateFile))
	if errors.Is(err, os.ErrNotExist) {
		return devState{}, errNoDev
	}
	if err != nil {
		return devState{}, fmt.Errorf("%w: %w", errNoDev, err)
	}
	var state devState
	if err := json.Unmarshal(data, &state); err != nil {
		return devState{}, fmt.Errorf("%w: %s: %w", errNoDev, filepath.Join(dir, devStateFile), err)
	}
	if !alive(state.PID) {
		return devState{}, fmt.Errorf("%w: process %d is gone", errNoDev, state.PID)
	}
	return state, nil
}

// removeDevState takes the file away, if it is that of a process.
func removeDevState(getenv func(string) string, pid int) error {
	state, err := findDev(getenv)
	if err != nil || state.PID != pid {
		return nil //nolint:nilerr // Nothing of ours is there.
	}
	dir, err := devStateDir(getenv)
	if err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, devStateFile))
}

// alive reports whether a process of the ID runs.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	running, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = running.Release() }()
	err = running.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}
