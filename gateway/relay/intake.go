package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// errTooManyWait is why the longest waiting connection is sent away.
var errTooManyWait = errors.New("too many connections wait for their hello")

// intake reads a connection up to the end of its hello. It keeps what was read,
// and nothing more.
type intake struct {
	engine *Engine
	reader reader
	parser hello.Parser

	// proxied: a PROXY header may come first; header is what was read of it.
	proxied bool
	header  []byte
	source  netip.AddrPort

	// kept is what the endpoint is to be sent, size its length, shared how much
	// of it is counted in Engine.longHellos.
	kept   net.Buffers
	size   int
	shared int64
}

// refusal is why a connection is not relayed.
type refusal struct {
	reason table.Reason
	detail string
	// alert is sent if it is not 0.
	alert hello.Alert
}

// run reads until the hello is whole or refused. The read deadline of the
// connection bounds it.
func (in *intake) run() *refusal {
	for {
		block, n, err := in.reader.read()
		if err != nil {
			return readRefusal(err)
		}
		verdict, refused := in.take(block[:n])
		blocks.Put(block)
		if refused != nil {
			return refused
		}
		if verdict != hello.NeedMore {
			return in.judge(verdict)
		}
	}
}

func readRefusal(err error) *refusal {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &refusal{reason: table.ReasonHelloTimeout}
	}
	if errors.Is(err, io.EOF) {
		return &refusal{reason: table.ReasonClientLeft}
	}
	return &refusal{reason: table.ReasonClientLeft, detail: err.Error()}
}

// take takes bytes that were read.
func (in *intake) take(b []byte) (hello.Verdict, *refusal) {
	if in.proxied {
		rest, done, refused := in.takeHeader(b)
		if !done || refused != nil {
			return hello.NeedMore, refused
		}
		b = rest
	}
	verdict := in.parser.Feed(b)
	if verdict != hello.NeedMore && verdict != hello.Named {
		return verdict, nil
	}
	if !in.keep(b) {
		return verdict, &refusal{
			reason: table.ReasonHelloMemory,
			detail: "the shared memory for long hellos is used up",
			alert:  hello.RecordOverflow,
		}
	}
	return verdict, nil
}

// takeHeader takes bytes of a PROXY header, and is done with what comes behind
// it.
func (in *intake) takeHeader(b []byte) (rest []byte, done bool, refused *refusal) {
	in.header = append(in.header, b...)
	source, length, err := parseProxyHeader(in.header)
	switch {
	case errors.Is(err, errNoProxyHeader):
		length = 0
	case err != nil:
		return nil, false, &refusal{reason: table.ReasonProxyHeader, detail: err.Error()}
	case length == 0:
		return nil, false, nil
	}
	rest = in.header[length:]
	in.source, in.proxied, in.header = source, false, nil
	return rest, true, nil
}

const (
	// firstChunk and nextChunk are the least that is allocated for bytes of a
	// hello that comes in pieces: little for the many who never send more, and
	// not a slice for each byte.
	firstChunk = 512
	nextChunk  = 4 << 10
)

// keep keeps a copy of bytes. It is false when there is no memory for them.
func (in *intake) keep(b []byte) bool {
	in.size += len(b)
	if over := int64(in.size - in.engine.cfg.HelloFree); over > in.shared {
		more := over - in.shared
		in.shared = over
		if in.engine.longHellos.Add(more) > in.engine.cfg.HelloShared {
			return false
		}
	}
	least := firstChunk
	if last := len(in.kept) - 1; last >= 0 {
		least = nextChunk
		fits := min(len(b), cap(in.kept[last])-len(in.kept[last]))
		in.kept[last] = append(in.kept[last], b[:fits]...)
		b = b[fits:]
	}
	if len(b) > 0 {
		in.kept = append(in.kept, append(slices.Grow([]byte(nil), max(len(b), least)), b...))
	}
	return true
}

// release gives back the share of the memory for long hellos.
func (in *intake) release() {
	in.engine.longHellos.Add(-in.shared)
	in.shared = 0
}

// judge turns a final verdict into a refusal; nil when there is a name.
func (in *intake) judge(verdict hello.Verdict) *refusal {
	switch verdict {
	case hello.Named:
		return nil
	case hello.NoName:
		return &refusal{reason: table.ReasonNoName, alert: in.parser.Alert()}
	case hello.NotTLS:
		return &refusal{reason: table.ReasonNotTLS}
	}
	return &refusal{reason: table.ReasonHelloRefused, detail: in.parser.Err().Error(), alert: in.parser.Alert()}
}
