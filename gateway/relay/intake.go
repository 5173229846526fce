package relay

import (
	"errors"
	"io"
	"os"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// readHello reads until the hello is whole or refused, and keeps it. The read
// deadline of the connection bounds it.
func readHello(in *engine.Intake, r *reader) *engine.Refusal {
	for {
		block, n, err := r.read()
		if err != nil {
			return readRefusal(in, err)
		}
		forEndpoint, whole, refused := in.Take(block[:n])
		if refused == nil {
			refused = in.Keep(forEndpoint)
		}
		blocks.Put(block)
		if whole || refused != nil {
			return refused
		}
	}
}

func readRefusal(in *engine.Intake, err error) *engine.Refusal {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &engine.Refusal{Reason: table.ReasonHelloTimeout}
	}
	if errors.Is(err, io.EOF) {
		return in.Left("")
	}
	return in.Left(err.Error())
}
