package envoy

import (
	"errors"
	"fmt"
	"os/exec"
)

// ErrNotFound indicates that there is no Envoy where one was looked for.
var ErrNotFound = errors.New("there is no Envoy")

// Variable is the environment variable that has the path of an Envoy.
const Variable = "ISTHMUS_ENVOY"

// Find is the path of an Envoy: the one that is named, else that of [Variable], else the
// one on the PATH. Possible error: [ErrNotFound].
func Find(named string, environment func(string) string) (string, error) {
	where, path := "named", named
	if path == "" {
		where, path = "named by "+Variable, environment(Variable)
	}
	if path == "" {
		where, path = "on the PATH", "envoy"
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("%w %s: %w", ErrNotFound, where, err)
	}
	return found, nil
}
