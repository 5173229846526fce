// Package envoytest gives tests a real Envoy.
package envoytest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Need is the path of an Envoy: that of ISTHMUS_ENVOY, or the one that the tools'
// script has installed, or the one on the PATH. Without one the test is skipped, or under
// CI fails.
func Need(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ISTHMUS_ENVOY")
	if path == "" {
		_, own, _, _ := runtime.Caller(0)
		path = filepath.Join(filepath.Dir(own), "../.tools/envoy/envoy/_bin/envoy")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			path = "envoy"
		}
	}
	found, err := exec.LookPath(path)
	switch {
	case err == nil:
		return found
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skipf("!!! NOT TESTED WITH A REAL ENVOY: %v !!!", err)
	}
	return ""
}
