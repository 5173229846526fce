package main

import (
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// trust opens the dev CA of a directory, or the user's own, so that every
// command on this machine means the same trust domain. With a trust domain and
// no directory there is nothing to open.
func (a *app) trust(trustDomain, dir string) (*identity.DevCA, error) {
	if dir == "" {
		if trustDomain != "" {
			return nil, nil
		}
		dir = filepath.Join(stateDir(a.environment), "ca")
	}
	ca, err := identity.OpenDevCA(dir, identity.DevCAConfig{TrustDomain: trustDomain})
	if err != nil {
		return nil, hint{err, "give --trust-domain, or another --ca-dir"}
	}
	return ca, nil
}
