package engine

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// HelloMemory bounds the memory of all unfinished hellos of an engine, as
// [Config.HelloFree] and [Config.HelloShared] say. It is safe for concurrent use.
type HelloMemory struct{ used atomic.Int64 }

// Used is how many bytes of the shared allowance are in use.
func (m *HelloMemory) Used() int64 { return m.used.Load() }

// Refusal is why a connection is not relayed.
type Refusal struct {
	Reason table.Reason
	Detail string
	// Alert is sent if it is not 0.
	Alert hello.Alert
}

// Intake takes the bytes of a connection up to the end of its hello, as they
// come. It holds only what it is told to [Intake.Keep].
type Intake struct {
	cfg    *Config
	memory *HelloMemory
	parser hello.Parser

	// proxied: a PROXY header may come first; header is what was read of it.
	proxied bool
	header  []byte
	source  netip.AddrPort

	// heard is how many bytes were taken, fed how many of them were not of a PROXY
	// header.
	heard, fed int

	// kept is what the endpoint is to be sent, size its length, shared how much
	// of it is counted in memory.
	kept   net.Buffers
	size   int
	shared int64
}

// Begin makes the intake that of a connection from peer.
func (in *Intake) Begin(cfg *Config, memory *HelloMemory, peer netip.AddrPort) {
	*in = Intake{cfg: cfg, memory: memory, parser: hello.New(cfg.Hello), proxied: cfg.MayProxy(peer)}
}

// Take looks at bytes that were read. It returns those that the endpoint is to be
// sent: all but a PROXY header. If the hello is not whole, they must be kept. What
// is returned is b's, or the intake's until its next use.
func (in *Intake) Take(b []byte) (forEndpoint []byte, whole bool, refused *Refusal) {
	in.heard += len(b)
	if in.proxied {
		rest, done, refused := in.takeHeader(b)
		if !done || refused != nil {
			return nil, false, refused
		}
		b = rest
	}
	in.fed += len(b)
	verdict := in.parser.Feed(b)
	if verdict == hello.NeedMore {
		return b, false, nil
	}
	return b, verdict == hello.Named, in.judge(verdict)
}

// takeHeader takes bytes of a PROXY header, and is done with what comes behind
// it.
func (in *Intake) takeHeader(b []byte) (rest []byte, done bool, refused *Refusal) {
	in.header = append(in.header, b...)
	source, length, err := ParseProxyHeader(in.header)
	switch {
	case errors.Is(err, ErrNoProxyHeader):
		length = 0
	case err != nil:
		return nil, false, &Refusal{Reason: table.ReasonProxyHeader, Detail: err.Error()}
	case length == 0:
		return nil, false, nil
	}
	rest = in.header[length:]
	in.source, in.proxied, in.header = source, false, nil
	return rest, true, nil
}

// judge turns a final verdict into a refusal; nil when there is a name.
func (in *Intake) judge(verdict hello.Verdict) *Refusal {
	switch verdict {
	case hello.Named:
		return nil
	case hello.NoName:
		return &Refusal{Reason: table.ReasonNoName, Alert: in.parser.Alert()}
	case hello.NotTLS:
		return &Refusal{Reason: table.ReasonNotTLS}
	}
	return &Refusal{Reason: table.ReasonHelloRefused, Detail: in.parser.Err().Error(), Alert: in.parser.Alert()}
}

const (
	// firstChunk and nextChunk are the least that is allocated for bytes of a
	// hello that comes in pieces: little for the many who never send more, and
	// not a slice for each byte.
	firstChunk = 512
	nextChunk  = 4 << 10
)

// Keep keeps a copy of bytes for the endpoint. They are refused when there is no
// memory for them.
func (in *Intake) Keep(b []byte) *Refusal {
	in.size += len(b)
	if over := int64(in.size - in.cfg.HelloFree); over > in.shared {
		more := over - in.shared
		in.shared = over
		if in.memory.used.Add(more) > in.cfg.HelloShared {
			return &Refusal{
				Reason: table.ReasonHelloMemory,
				Detail: "the shared memory for long hellos is used up",
				Alert:  hello.RecordOverflow,
			}
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
	return nil
}

// Kept is what was kept, in order. It stays valid after Release.
func (in *Intake) Kept() net.Buffers { return in.kept }

// Release gives back the share of the memory for long hellos; the bytes are the
// caller's from now on.
func (in *Intake) Release() {
	if in.shared != 0 {
		in.memory.used.Add(-in.shared)
		in.shared = 0
	}
}

// Silent reports whether not a byte has come.
func (in *Intake) Silent() bool { return in.heard == 0 }

// Alone reports whether nothing has come behind the hello.
func (in *Intake) Alone() bool { return in.fed == in.parser.Bytes() }

// Left is why a connection is not relayed whose client has left before its hello
// was whole, and how it has.
func (in *Intake) Left(detail string) *Refusal {
	if in.Silent() {
		return &Refusal{Reason: table.ReasonUnused, Detail: detail}
	}
	return &Refusal{Reason: table.ReasonClientLeft, Detail: detail}
}

// Source is the client that a PROXY header named; not valid if none did.
func (in *Intake) Source() netip.AddrPort { return in.source }

// ServerName is the name as the client wrote it; empty unless the hello is whole
// and has one.
func (in *Intake) ServerName() string { return in.parser.ServerName() }

// AppendFolded appends the name in lower case, as tables hold it.
func (in *Intake) AppendFolded(b []byte) []byte { return in.parser.AppendFolded(b) }
