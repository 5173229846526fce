package devagent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrMissing says that no Consul is installed where [Find] looks.
var ErrMissing = errors.New("Consul is not installed") //nolint:staticcheck // ST1005: a name begins with a capital.

// variable names the binary, whatever else is there.
const variable = "ISTHMUS_CONSUL_BINARY"

// built is where deploy/tools/install.sh leaves the binary.
const built = "deploy/.tools/consul/consul"

// ours begins the go.mod at the top of the repository.
const ours = "module github.com/isthmus-mesh/isthmus\n"

// Find returns the path of the consul binary: what ISTHMUS_CONSUL_BINARY names, else
// what deploy/tools/install.sh built in the repository around the working
// directory, else the one in PATH. Possible error: [ErrMissing].
func Find() (string, error) {
	if path := os.Getenv(variable); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrMissing, variable, err)
		}
		return filepath.Abs(found)
	}
	if top, ok := repository(); ok {
		if path, err := exec.LookPath(filepath.Join(top, built)); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath("consul"); err == nil {
		return filepath.Abs(path)
	}
	return "", fmt.Errorf("%w: run deploy/tools/install.sh, or set %s to its binary", ErrMissing, variable)
}

// repository is the top of the repository that the working directory is in.
func repository() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(text, []byte(ours)) {
			return dir, true
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", false
		}
		dir = above
	}
}
