package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/deploy/demo"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

// loopbackPairs is how many pairs of loopback networks are tried for the
// built-in catalog: 127.1 and 127.2, then 127.3 and 127.4, and so on.
const loopbackPairs = 32

// newBuiltInWorld copies the built-in catalog to a directory and makes its world.
// Each world has addresses of its own, so that several may run at once: the
// catalog is moved to the first pair of networks that nobody uses.
func newBuiltInWorld(a *app, catalog, dir string, ca *identity.DevCA) (*world, error) {
	var taken error
	for pair := range loopbackPairs {
		claim, err := claimLoopback(pair)
		if err != nil {
			taken = cmp.Or(taken, err)
			continue
		}
		w, err := newMovedWorld(a, catalog, dir, ca, pair)
		if err == nil {
			w.claim = claim
			return w, nil
		}
		_ = claim.Close()
		if !errors.Is(err, errTaken) {
			return nil, err
		}
		taken = cmp.Or(taken, err)
		if err := os.RemoveAll(catalog); err != nil {
			return nil, err
		}
	}
	return nil, taken
}

func newMovedWorld(a *app, catalog, dir string, ca *identity.DevCA, pair int) (*world, error) {
	if err := copyMoved(catalog, demo.Catalog(), pair); err != nil {
		return nil, err
	}
	return newWorld(a, catalog, dir, ca)
}

// claimLoopback takes a pair of networks for as long as the claim is open: of
// two processes that start at the same moment only one gets it.
func claimLoopback(pair int) (io.Closer, error) {
	return listenOnce(fmt.Sprintf("127.%d.0.1:8443", 1+2*pair))
}

// copyMoved copies the built-in catalog with its addresses in a pair of networks.
func copyMoved(catalog string, source fs.FS, pair int) error {
	moved := strings.NewReplacer("127.1.", fmt.Sprintf("127.%d.", 1+2*pair), "127.2.", fmt.Sprintf("127.%d.", 2+2*pair))
	return fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(catalog, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		data, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, []byte(moved.Replace(string(data))), 0o600)
	})
}

// errTaken says that an address that is to be listened at cannot be had.
var errTaken = errors.New("an address of the catalog cannot be had")

// listenOnce listens at an address. Possible error: [errTaken].
func listenOnce(address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err == nil {
		return listener, nil
	}
	if op, ok := errors.AsType[*os.SyscallError](err); ok {
		err = op.Err
	}
	return nil, hint{
		fmt.Errorf("%w: %s: %w", errTaken, address, err),
		"end what listens there (perhaps at that port of all addresses), or give a --catalog with other addresses",
	}
}

// addresses are all at which the sidecar listens.
func (s worldSidecar) addresses() []string {
	var out []string
	if !strings.Contains(string(s.instance.GetProxy().GetConfigJson()), `"bind_`) { // Else the sidecar itself says.
		out = append(out, s.public)
	}
	for _, u := range s.instance.GetProxy().GetUpstreams() {
		if u.GetLocalBindPort() != 0 {
			out = append(out, hostPort(cmp.Or(u.GetLocalBindAddress(), "127.0.0.1"), u.GetLocalBindPort()))
		}
	}
	return out
}

// addresses are all at which the world's parts listen, sorted.
func (w *world) addresses() []string {
	var out []string
	for _, g := range w.gateways {
		out = append(out, g.listen...)
	}
	for _, app := range w.apps {
		out = append(out, app.address)
	}
	for _, s := range w.sidecars {
		out = append(out, s.addresses()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkAddresses finds out whether the world can listen where it has to.
// Possible error: [errTaken].
func (w *world) checkAddresses() error {
	for _, address := range w.addresses() {
		listener, err := listenOnce(address)
		if err != nil {
			return err
		}
		if err := listener.Close(); err != nil {
			return err
		}
	}
	return nil
}
