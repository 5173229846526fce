//go:build !unix

package identity

import (
	"errors"
	"fmt"
)

// lock is not there on this system, so a dev CA cannot be shared by processes.
func lock(path string) (unlock func(), err error) {
	return nil, fmt.Errorf("lock %s: %w", path, errors.ErrUnsupported)
}
