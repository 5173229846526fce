//go:build linux

package loop_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// plan is what both ends of a connection do. The client says it behind its hello.
type plan struct {
	// Seed is that of the bytes, Up and Down are how many there are each way.
	Seed, Up, Down uint64
	// Break is who resets halfway: 0 nobody, 1 the client, 2 the far side.
	Break uint8
	// Slow reads little at once.
	Slow bool
}

var planSize = binary.Size(plan{})

// errOther indicates that other bytes arrive than were sent.
var errOther = errors.New("other bytes arrive than were sent")

// bytesOf is a stream of bytes that a seed decides.
func bytesOf(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// send writes so many bytes of a stream.
func send(c net.Conn, seed, most uint64) error {
	source, b := bytesOf(seed), make([]byte, 50_000)
	for most > 0 {
		n := min(most, uint64(len(b)))
		_, _ = source.Read(b[:n])
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		most -= n
	}
	return nil
}

// receive reads a stream to its end, and compares it.
func receive(c net.Conn, seed uint64, slow bool, moved *atomic.Int64) (got uint64, err error) {
	source, b, want := bytesOf(seed), make([]byte, 100_000), make([]byte, 100_000)
	for {
		room := b
		if slow {
			room = b[:3000]
			runtime.Gosched()
		}
		n, err := c.Read(room)
		_, _ = source.Read(want[:n])
		if !bytes.Equal(want[:n], b[:n]) {
			return got, errOther
		}
		got += uint64(n)
		moved.Add(int64(n))
		if err != nil {
			return got, err
		}
	}
}

// run is one end of a connection; it returns what is wrong.
func (p plan) run(c *net.TCPConn, mine, other uint64, sends, receives uint64, breaks bool, moved *atomic.Int64) error {
	defer c.Close()
	var sent error
	var sending sync.WaitGroup
	sending.Go(func() {
		if breaks {
			_ = send(c, mine, sends/2)
			resetNow(c)
			return
		}
		if sent = send(c, mine, sends); sent == nil {
			_ = c.CloseWrite()
		}
	})
	got, err := receive(c, other, p.Slow, moved)
	sending.Wait()
	switch {
	case errors.Is(err, errOther):
		return err
	case breaks:
		return nil
	case p.Break != 0:
		// A reset is told once: to the read, or to the write.
		if errors.Is(err, io.EOF) && got != receives && sent == nil {
			return fmt.Errorf("a broken stream of %d bytes ends after %d as if it were whole", receives, got)
		}
		return nil
	case sent != nil || !errors.Is(err, io.EOF) || got != receives:
		return fmt.Errorf("%d of %d bytes were received (%w), sent: %w", got, receives, err, sent)
	}
	return nil
}

// load is a far side, and what clients of it find wrong.
type load struct {
	failed       chan error
	clients, far sync.WaitGroup
	moved        atomic.Int64
}

func (l *load) note(err error) {
	if err != nil {
		l.failed <- err
	}
}

func newLoad(t *testing.T) (*load, *far) {
	l := &load{failed: make(chan error, 1<<12)}
	t.Cleanup(func() {
		l.far.Wait()
		close(l.failed)
		for err := range l.failed {
			t.Error(err)
		}
	})
	f := newFar(t, "127.0.0.1")
	l.far.Go(func() {
		for c := range f.conns {
			l.far.Go(func() {
				var p plan
				if _, err := io.ReadFull(c, make([]byte, len(greeting))); err != nil {
					_ = c.Close()
					return
				}
				if err := binary.Read(c, binary.BigEndian, &p); err != nil {
					_ = c.Close()
					return
				}
				l.note(p.run(c, p.Seed+1, p.Seed, p.Down, p.Up, p.Break == 2, &l.moved))
			})
		}
	})
	return l, f
}

func (l *load) client(t *testing.T, s *served, p plan) {
	c := dialTo(t, s.address)
	b := bytes.NewBuffer(append([]byte(nil), greeting...))
	_ = binary.Write(b, binary.BigEndian, p)
	say(t, c, b.Bytes())
	l.clients.Go(func() { l.note(p.run(c, p.Seed, p.Seed+1, p.Up, p.Down, p.Break == 1, &l.moved)) })
}

// settled has every client end.
func (l *load) settled(t *testing.T, s *served) {
	t.Helper()
	l.clients.Wait()
	await(t, "all connections have ended", func() bool { return s.Stats().Open == 0 })
}

// Big connections move between the loops; every byte arrives, and what breaks is
// never taken for whole.
func TestBigConnections(t *testing.T) {
	l, f := newLoad(t)
	s := serveOn(t, 2, engine.Config{OpenAhead: 4}, setOf(f.address))
	random := rand.New(rand.NewPCG(1, 2))
	const connections = 60
	for i := range connections {
		l.client(t, s, plan{
			Seed: uint64(i) << 8, Up: 1 << (12 + random.Uint64N(11)), Down: 1 << (12 + random.Uint64N(11)),
			Break: uint8(max(0, random.IntN(6)-3)), Slow: random.IntN(4) == 0,
		})
	}
	l.settled(t, s)
	stats := s.Stats()
	c := s.route.Counters
	if stats.Accepted != connections || c.Connections.Load() != connections || c.Open.Load() != 0 || c.Busy.Load() != 0 ||
		stats.BytesIn != c.BytesIn.Load() || stats.BytesOut != c.BytesOut.Load() {
		t.Errorf("the engine counts %+v", stats)
	}
	var in, out uint64
	for range connections {
		r := s.record(t)
		in, out = in+r.BytesIn, out+r.BytesOut
	}
	if in != stats.BytesIn || out != stats.BytesOut {
		t.Errorf("the records have %d and %d bytes, the engine %d and %d", in, out, stats.BytesIn, stats.BytesOut)
	}
}

// What is cut at the end of a drain is reset, wherever it is just then.
func TestBigConnectionsAreCut(t *testing.T) {
	for round := range 3 {
		l, f := newLoad(t)
		s := serveOn(t, 2, engine.Config{OpenAhead: 4}, setOf(f.address))
		const connections = 10
		for i := range connections {
			l.client(t, s, plan{Seed: uint64(i) << 8, Up: 1 << 40, Down: 1 << 40, Break: 3, Slow: i%4 == 0})
		}
		await(t, "all are joined", func() bool { return s.route.Counters.Open.Load() == connections })
		await(t, "bytes move", func() bool { return l.moved.Load() > int64(round)<<22 })
		if cut := s.drainNow(); cut != connections {
			t.Errorf("%d connections are cut; want %d", cut, connections)
		}
		l.settled(t, s)
		for range connections {
			if r := s.record(t); r.Reason != table.ReasonDrained {
				t.Errorf("the record says %+v", r)
			}
		}
		if busy, open := s.route.Counters.Busy.Load(), s.route.Counters.Open.Load(); busy != 0 || open != 0 {
			t.Errorf("%d are busy and %d open after the drain", busy, open)
		}
	}
}
