package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/isthmus-mesh/isthmus/services/identity"
)

// trust is what a command on files takes for granted.
type trust struct {
	domain string
	// ca is nil where there is none: the trust domain was given, or certificates
	// come from PEM files.
	ca *identity.DevCA
}

// openTrust finds out the trust domain: the one that is given, else that of the
// certificates in the directory, else that of the dev CA there, which is made
// if there is none. Without a directory the dev CA is the user's own, so that
// every command on this machine means the same trust domain; with a trust domain
// and no directory there is nothing to open.
func (a *app) openTrust(trustDomain, dir string) (trust, error) {
	if trustDomain != "" {
		// In files and on the wire it is lower case.
		trustDomain = strings.ToLower(trustDomain)
		if err := identity.CheckTrustDomain(trustDomain); err != nil {
			return trust{}, usageError{fmt.Errorf("--trust-domain: %w", err)}
		}
		if dir == "" {
			return trust{domain: trustDomain}, nil
		}
	}
	source, ca, err := identity.Open(cmp.Or(dir, a.userCADir()), identity.DevCAConfig{TrustDomain: trustDomain})
	switch files, ok := source.(identity.Directory); {
	case err != nil:
		return trust{}, hint{err, "give --trust-domain, or another --ca-dir"}
	case !ok:
		return trust{domain: ca.TrustDomain(), ca: ca}, nil
	case trustDomain == "":
		if trustDomain, err = files.TrustDomain(); err != nil {
			return trust{}, hint{err, "correct the file, or give --trust-domain"}
		}
	}
	return trust{domain: trustDomain}, nil
}

// openIdentity opens where a sidecar's certificate comes from: the directory, or
// the user's own dev CA. If that is of another trust domain than is asked for,
// the user has one of that trust domain beside it.
func (a *app) openIdentity(trustDomain, dir string) (identity.Source, error) {
	config := identity.DevCAConfig{TrustDomain: strings.ToLower(trustDomain)}
	source, _, err := identity.Open(cmp.Or(dir, a.userCADir()), config)
	if dir == "" && errors.Is(err, identity.ErrMismatch) {
		source, _, err = identity.Open(a.userCADir()+"-"+config.TrustDomain, config)
	}
	if err != nil {
		return nil, hint{err, "give the right --ca-dir, or another --trust-domain"}
	}
	return source, nil
}

// userCADir is the directory of the user's own dev CA.
func (a *app) userCADir() string { return filepath.Join(stateDir(a.environment), "ca") }
