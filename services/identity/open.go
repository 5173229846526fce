package identity

import (
	"fmt"
	"os"
	"path/filepath"
)

// Open opens the source in a directory: PEM files, where a certificate's file is
// there, else a dev CA, which is made if there is none.
//
// The dev CA is nil for PEM files; they know no trust domain but their leaf's,
// so the config's is not looked at.
func Open(dir string, config DevCAConfig) (Source, *DevCA, error) {
	_, certificateErr := os.Stat(filepath.Join(dir, certificateName))
	_, caErr := os.Stat(filepath.Join(dir, stateName))
	switch {
	case certificateErr == nil && caErr == nil:
		return nil, nil, fmt.Errorf("%s: it holds both %s and %s; leave the one that counts", dir, certificateName, stateName)
	case certificateErr == nil:
		return Directory{Path: dir, Clock: config.Clock}, nil, nil
	}
	ca, err := OpenDevCA(dir, config)
	if err != nil {
		return nil, nil, err
	}
	return ca, ca, nil
}
