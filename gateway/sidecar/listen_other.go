//go:build !unix

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// listenUnix is for systems with modes on sockets.
func listenUnix(_ context.Context, path string, _ os.FileMode) (net.Listener, error) {
	return nil, fmt.Errorf("listen on %s: %w", path, errors.ErrUnsupported)
}

func setSocketMode(string, os.FileMode) error { return nil }
