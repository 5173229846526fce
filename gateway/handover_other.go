//go:build !unix

package gateway

import (
	"errors"
	"net"
	"os"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// errNoDescriptors: only unix passes descriptors between processes.
var errNoDescriptors = errors.New("descriptors cannot be handed over on this system")

func sendDescriptor(*net.UnixConn, *engine.Listener) error { return errNoDescriptors }
func receiveDescriptor(*net.UnixConn) (*os.File, error)    { return nil, errNoDescriptors }
func listenHandover(string) (*net.UnixListener, error)     { return nil, errNoDescriptors }
func isNobody(err error) bool                              { return errors.Is(err, os.ErrNotExist) }
