package enginetest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds a client that would otherwise wait for ever on an engine that
// does not close. No case depends on its length.
const patience = 30 * time.Second

// What clients see.
const (
	seenTLS   = "echo over the server's own session"
	seenBytes = "all bytes, closed"
	seenEnd   = "closed"
)

// clients is the clients of the suite.
type clients struct {
	world   *world
	address netip.AddrPort
	// hasty is where an engine listens that does not wait long for a hello.
	hasty netip.AddrPort
	// conversationsAtOnce is how many seeded ones there are of each kind.
	conversationsAtOnce int
	// settled: they begin when both ends are joined.
	settled bool
}

// testCase is one client and what it should see.
type testCase struct {
	name, want string
	client     func(*testing.T) string
}

func (c *clients) cases() []testCase {
	return slices.Concat(c.legal(), c.refused(), c.openings(), c.closings(), c.flows(), c.conversations())
}

func (c *clients) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	return connect(t, c.address).TCPConn
}

// longProtocols is more than 16 KiB of ALPN.
func longProtocols() []string {
	out := make([]string, 70)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", strings.Repeat("x", 240), i)
	}
	return out
}

func (c *clients) legal() []testCase {
	tlsCase := func(name string, config *tls.Config, recordSize, segmentSize int) testCase {
		return testCase{name, seenTLS, func(t *testing.T) string {
			return c.echo(t, config, always(recordSize), always(segmentSize))
		}}
	}
	const all = 1 << 20
	return []testCase{
		tlsCase("a Go client with a post-quantum hello", &tls.Config{ServerName: Service}, all, all),
		tlsCase("TLS 1.2", &tls.Config{ServerName: Service, MaxVersion: tls.VersionTLS12}, all, all),
		tlsCase("a name in upper case", &tls.Config{ServerName: strings.ToUpper(Service)}, all, all),
		tlsCase("a name under a wildcard", &tls.Config{ServerName: "web.default" + Suffix}, all, all),
		tlsCase("one byte a segment", &tls.Config{ServerName: Service}, all, 1),
		tlsCase("one byte a record", &tls.Config{ServerName: Service}, 1, all),
		tlsCase("one byte a record and a segment", &tls.Config{ServerName: Service}, 1, 1),
		tlsCase("16 KiB of extensions", &tls.Config{ServerName: Service, NextProtos: longProtocols()}, all, all),
		tlsCase("16 KiB of extensions, one byte a record", &tls.Config{ServerName: Service, NextProtos: longProtocols()}, 1, all),
		tlsCase("an endpoint that refuses is passed over", &tls.Config{ServerName: Dead}, all, all),
		{"a client that half-closes at once", seenBytes, func(t *testing.T) string {
			return c.bytes(t, HelloFor(Collector))
		}},
		{"bytes behind the hello at once", seenBytes, func(t *testing.T) string {
			return c.bytes(t, append(HelloFor(Collector), bytes.Repeat([]byte("early data"), 30000)...))
		}},
		{"16 MiB and back", seenBytes, func(t *testing.T) string {
			random := rand.NewChaCha8([32]byte{})
			big := make([]byte, 16<<20)
			_, _ = random.Read(big)
			return c.bytes(t, append(HelloFor(Collector), big...))
		}},
	}
}

// echo makes a TLS connection, compares both ends' sessions and sends some bytes
// there and back.
func (c *clients) echo(t *testing.T, config *tls.Config, recordSize, segmentSize func() int) string {
	config = config.Clone()
	name := config.ServerName
	// The certificate is verified for the server's own name, which is not the
	// SNI, as SPIFFE certificates are.
	config.InsecureSkipVerify = true
	var chain [][]byte
	config.VerifyPeerCertificate = func(raw [][]byte, _ [][]*tlsCertificate) error { chain = raw; return nil }
	conn := tls.Client(&cuttingConn{TCPConn: c.dial(t), recordSize: recordSize, segmentSize: segmentSize}, config)
	if err := conn.Handshake(); isReset(err) {
		return seenReset
	} else if err != nil {
		return fmt.Sprintf("handshake for %s: %v", name, err)
	}
	if err := c.world.verify(chain); err != nil {
		return err.Error()
	}
	if theirs := <-c.world.sessions; theirs != sessionOf(conn) {
		return "another session at the server"
	}
	sent := []byte(strings.Repeat("hello ", 1000))
	if _, err := conn.Write(sent); err != nil {
		return err.Error()
	}
	if err := conn.CloseWrite(); err != nil {
		return err.Error()
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		return fmt.Sprintf("%d bytes back of %d: %v", len(got), len(sent), err)
	}
	return seenTLS
}

// bytes sends bytes, half-closes at once, and compares what comes back.
func (c *clients) bytes(t *testing.T, b []byte) string {
	conn := c.dial(t)
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(b)
		_ = conn.CloseWrite()
		wrote <- err
	}()
	got := ending(conn, b)
	if err := <-wrote; err != nil {
		return err.Error()
	}
	return got
}

func (c *clients) refused() []testCase {
	send := func(name, want string, b []byte) testCase {
		return testCase{name, want, func(t *testing.T) string {
			conn := c.dial(t)
			if _, err := conn.Write(b); isReset(err) {
				return seenReset
			} else if err != nil {
				return err.Error()
			}
			return ending(conn, nil)
		}}
	}
	// A version of the hello without its name, as for an address.
	noName := HelloFor("127.0.0.1")
	return []testCase{
		send("no name", "alert 112, closed", noName),
		send("an unknown name", "alert 112, closed", HelloFor("other.default.dc1.internal."+Domain)),
		send("a foreign trust domain", "alert 112, closed", HelloFor("api.default.dc2.internal.99999999-2222-3333-4444-555555555555.consul")),
		send("a suffix alone", "alert 112, closed", HelloFor(Suffix[1:])),
		send("a hello that says it is endless", "alert 22, closed", record([]byte{1, 0xff, 0xff, 0xff, 3, 3})),
		send("a record too long", "alert 22, closed", []byte{22, 3, 1, 0x50, 0, 1}),
		send("empty records", "alert 10, closed", bytes.Repeat(record(nil), 1000)),
		send("a record of another type", "alert 10, closed", []byte{23, 3, 3, 0, 1, 0}),
		send("a malformed hello", "alert 50, closed", record([]byte{1, 0, 0, 2, 3, 3})),
		send("HTTP", seenEnd, []byte("GET / HTTP/1.1\r\nHost: "+Service+"\r\n\r\n")),
		{"silence", seenEnd, func(t *testing.T) string { return ending(connect(t, c.hasty), nil) }},
		{"half a hello and silence", seenEnd, func(t *testing.T) string {
			conn := connect(t, c.hasty)
			conn.write(HelloFor(Service)[:100])
			return ending(conn, nil)
		}},
		send("no endpoint", "alert 80, closed", HelloFor(Empty)),
		send("no endpoint that answers", "alert 80, closed", HelloFor(Gone)),
		{"an end before the hello is whole", seenEnd, func(t *testing.T) string {
			conn := c.dial(t)
			_, _ = conn.Write(HelloFor(Service)[:100])
			_ = conn.CloseWrite()
			return ending(conn, nil)
		}},
	}
}

// seeded is a client drawn from a seed: some kind of hello, cut somehow.
func (c *clients) seeded(seed uint64) (string, func(*testing.T) string) {
	random := rand.New(rand.NewPCG(seed, 0))
	config := &tls.Config{ServerName: []string{Service, strings.ToUpper(Service), "x.default" + Suffix, Dead}[random.IntN(4)]}
	switch random.IntN(4) {
	case 0:
		config.MaxVersion = tls.VersionTLS12
	case 1:
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	case 2:
		config.NextProtos = longProtocols()[:random.IntN(70)]
	}
	most := 1 + random.IntN(2000)
	return fmt.Sprintf("seed %d", seed), func(t *testing.T) string {
		return c.echo(t, config, between(random, most), between(random, most))
	}
}
