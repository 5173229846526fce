package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/enginetest"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
)

// sockets returns the two ends of a connection of a network.
func sockets(t *testing.T, network string) (near, far relay.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial(network, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client.(relay.Conn), server.(relay.Conn)
}

// joined is a pair of connections that are being joined: what a client and an
// upstream hold of it.
type joined struct {
	client, upstream relay.Conn
	result           chan relay.Result
	in, out          atomic.Uint64
}

func startJoin(ctx context.Context, t *testing.T, network string) *joined {
	t.Helper()
	j := &joined{result: make(chan relay.Result, 1)}
	var a, b relay.Conn
	j.client, a = sockets(t, network)
	b, j.upstream = sockets(t, network)
	go func() { j.result <- relay.Join(ctx, a, b, relay.Count{In: &j.in, Out: &j.out}, relay.Count{}) }()
	return j
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q (%v); want %q", b, err, want)
	}
}

func readEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes (%v); want the end", n, err)
	}
}

func TestJoinPassesBytesAndEnds(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			j := startJoin(t.Context(), t, network)
			write(t, j.client, "to there")
			read(t, j.upstream, "to there")
			write(t, j.upstream, "and back")
			read(t, j.client, "and back")
			if err := j.client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			readEnd(t, j.upstream)
			// The other direction goes on as long as it likes.
			write(t, j.upstream, "still open")
			read(t, j.client, "still open")
			_ = j.upstream.CloseWrite()
			readEnd(t, j.client)
			if got, want := <-j.result, (relay.Result{In: 8, Out: 18}); got != want {
				t.Errorf("got %+v; want %+v", got, want)
			}
			if j.in.Load() != 8 || j.out.Load() != 18 {
				t.Errorf("counted %d and %d", j.in.Load(), j.out.Load())
			}
		})
	}
}

func TestJoinPassesTheUpstreamsEndFirst(t *testing.T) {
	j := startJoin(t.Context(), t, "tcp")
	_ = j.upstream.CloseWrite()
	readEnd(t, j.client)
	write(t, j.client, "still open")
	read(t, j.upstream, "still open")
	_ = j.client.CloseWrite()
	if got, want := <-j.result, (relay.Result{In: 10}); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// breakOff ends a connection with a reset.
func breakOff(t *testing.T, c relay.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestJoinPassesAReset(t *testing.T) {
	for _, side := range []relay.Side{relay.Client, relay.Upstream} {
		t.Run(string(side), func(t *testing.T) {
			j := startJoin(t.Context(), t, "tcp")
			breaks, sees := j.client, j.upstream
			if side == relay.Upstream {
				breaks, sees = j.upstream, j.client
			}
			write(t, breaks, "x")
			read(t, sees, "x")
			breakOff(t, breaks)
			if _, err := sees.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other side sees %v; want a reset", err)
			}
			got := <-j.result
			if got.Broke != side || !errors.Is(got.Err, syscall.ECONNRESET) {
				t.Errorf("got %+v; want %s to have broken it off", got, side)
			}
		})
	}
}

func TestJoinEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	j := startJoin(ctx, t, "tcp")
	write(t, j.client, "x")
	read(t, j.upstream, "x")
	why := errors.New("enough")
	cancel(why)
	if got := <-j.result; !errors.Is(got.Err, why) || got.Broke != relay.Neither || got.In != 1 {
		t.Errorf("got %+v; want the context's cause", got)
	}
	for _, c := range []relay.Conn{j.client, j.upstream} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a side sees %v; want a reset", err)
		}
	}
}

func TestJoinWithAContextThatHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := startJoin(ctx, t, "tcp")
	if got := <-j.result; !errors.Is(got.Err, context.Canceled) {
		t.Errorf("got %+v", got)
	}
}

// A TLS connection has no socket to wait on; its end is passed on all the same.
func TestJoinTLS(t *testing.T) {
	certificate, roots := enginetest.NewCertificate(t, "server.example")
	far, near := sockets(t, "tcp")
	client := tls.Client(far, &tls.Config{ServerName: "server.example", RootCAs: roots})
	server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{certificate}})
	plain, upstream := sockets(t, "tcp")
	result := make(chan relay.Result, 1)
	go func() { result <- relay.Join(t.Context(), server, plain) }()
	big := bytes.Repeat([]byte("0123456789"), 200_000)
	go func() {
		_, _ = client.Write(big)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(upstream)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes of %d arrived: %v", len(got), len(big), err)
	}
	write(t, upstream, "thanks")
	_ = upstream.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "thanks" {
		t.Errorf("%q came back: %v", got, err)
	}
	if got := <-result; got.Err != nil || got.In != uint64(len(big)) || got.Out != 6 {
		t.Errorf("got %+v", got)
	}
}

// stream sends n bytes from one end and reads them at the other.
func stream(t *testing.T, from, to relay.Conn, n int) {
	t.Helper()
	sent := make([]byte, n)
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		wrote <- err
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes did not arrive whole: %v", n, err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// Big streams are spliced, in both directions, to sockets of either kind.
func TestJoinMovesBigStreams(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			j := startJoin(t.Context(), t, network)
			for range 3 {
				stream(t, j.client, j.upstream, 3<<20)
				stream(t, j.upstream, j.client, 3<<20)
				write(t, j.client, "small")
				read(t, j.upstream, "small")
			}
			_ = j.client.CloseWrite()
			_ = j.upstream.CloseWrite()
			if got, want := <-j.result, (relay.Result{In: 9<<20 + 15, Out: 9 << 20}); got != want {
				t.Errorf("got %+v; want %+v", got, want)
			}
		})
	}
}

// A receiver that breaks off in the middle of a big stream is to blame.
func TestJoinBlamesTheReceiver(t *testing.T) {
	j := startJoin(t.Context(), t, "tcp")
	stream(t, j.client, j.upstream, 1<<20)
	go func() {
		big := make([]byte, 1<<20)
		for {
			if _, err := j.client.Write(big); err != nil {
				return
			}
		}
	}()
	if _, err := io.ReadFull(j.upstream, make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	breakOff(t, j.upstream)
	if got := <-j.result; got.Broke != relay.Upstream {
		t.Errorf("got %+v; want the upstream to have broken it off", got)
	}
}
