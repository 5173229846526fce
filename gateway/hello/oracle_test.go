package hello_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
)

// The oracle is crypto/tls: a server that is given the bytes and asked what
// name it saw.

// bytesConn gives the bytes and then the end, and swallows what is written.
type bytesConn struct {
	net.Conn
	bytes.Reader
}

func (c *bytesConn) Read(b []byte) (int, error)     { return c.Reader.Read(b) }
func (*bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (*bytesConn) SetDeadline(time.Time) error      { return nil }
func (*bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (*bytesConn) SetWriteDeadline(time.Time) error { return nil }
func (*bytesConn) Close() error                     { return nil }

var errSeen = errors.New("seen")

// oracle returns the name that crypto/tls sees, and whether it saw a hello.
func oracle(stream []byte) (name string, seen bool) {
	conn := &bytesConn{}
	conn.Reset(stream)
	err := tls.Server(conn, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			name, seen = info.ServerName, true
			return nil, errSeen
		},
	}).Handshake()
	if seen != errors.Is(err, errSeen) {
		panic(fmt.Sprintf("crypto/tls saw a hello and then said %v", err))
	}
	return name, seen
}

// recordConn keeps what a client writes first.
type recordConn struct {
	net.Conn
	first []byte
}

func (c *recordConn) Write(b []byte) (int, error) {
	c.first = append(c.first, b...)
	return len(b), nil
}
func (*recordConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (*recordConn) SetDeadline(time.Time) error { return nil }
func (*recordConn) Close() error                { return nil }

// goHello is the hello of a Go client.
func goHello(config *tls.Config) []byte {
	conn := &recordConn{}
	_ = tls.Client(conn, config).Handshake()
	return conn.first
}

// goConfigs are clients of many kinds, post-quantum ones among them.
func goConfigs() map[string]*tls.Config {
	long := make([]string, 70)
	for i := range long {
		long[i] = strings.Repeat("x", 240) + fmt.Sprint(i)
	}
	return map[string]*tls.Config{
		"default":        {ServerName: apiName},
		"upper case":     {ServerName: "API.Default.DC2"},
		"tls 1.2":        {ServerName: apiName, MaxVersion: tls.VersionTLS12},
		"tls 1.0":        {ServerName: apiName, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"classic":        {ServerName: apiName, CurvePreferences: []tls.CurveID{tls.X25519}},
		"post-quantum":   {ServerName: apiName, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}},
		"alpn of 16 KiB": {ServerName: apiName, NextProtos: long},
		"an address":     {ServerName: "127.0.0.1"},
		"no name":        {InsecureSkipVerify: true},
	}
}

func TestGoClientsAgreeWithOracle(t *testing.T) {
	for kind, config := range goConfigs() {
		t.Run(kind, func(t *testing.T) {
			stream := goHello(config)
			name, seen := oracle(stream)
			if !seen {
				t.Fatal("crypto/tls does not see its own hello")
			}
			wanted := want{verdict: hello.Named, name: name}
			if name == "" {
				wanted = noName
			}
			check(t, hello.Limits{}, stream, wanted)
		})
	}
}

func TestAnyCutGivesTheSameVerdict(t *testing.T) {
	streams := [][]byte{ordinary().stream(), []byte("POST / HTTP/1.1"), record(21, []byte{1, 0})}
	for _, config := range goConfigs() {
		streams = append(streams, goHello(config))
	}
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.SampledFrom(streams).Draw(t, "stream")
		if flip := rapid.IntRange(-1, len(stream)-1).Draw(t, "flip"); flip >= 0 {
			stream = slices.Clone(stream)
			stream[flip] ^= rapid.Byte().Draw(t, "with")
		}
		var whole, cut hello.Parser
		wanted := outcome(&whole, whole.Feed(stream))
		var got want
		for rest := stream; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			got = outcome(&cut, cut.Feed(rest[:n]))
			rest = rest[n:]
		}
		if got != wanted || cut.Bytes() != whole.Bytes() {
			t.Fatalf("whole %+v at %d; cut %+v at %d", wanted, whole.Bytes(), got, cut.Bytes())
		}
	})
}

// stricter are the rules of TLS that crypto/tls leaves unchecked in a hello, as
// far as it tells us of it: these may be refused though it saw a hello.
var stricter = []error{
	hello.ErrName,       // only the dot at the end is checked there
	hello.ErrNameLength, // not limited there
	hello.ErrLength,     // a session id over 32 bytes, empty lists of suites and compression methods
}

func FuzzClientHello(f *testing.F) {
	for _, config := range goConfigs() {
		stream := goHello(config)
		f.Add(stream)
		f.Add(records(stream[5:], 3))
	}
	f.Add(named(apiName).stream())
	f.Add(ordinary(serverName(hostName("a")), serverName(hostName("b"))).stream())
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	for _, record := range []int{0, 1} {
		other := records(message(named(apiName).body()), 100)
		other[105*record+1] = 2 // The major version of a record.
		f.Add(other)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var p hello.Parser
		verdict := p.Feed(stream)
		name, seen := oracle(stream)
		if p.Bytes() > len(stream) {
			t.Fatalf("%d bytes read of %d", p.Bytes(), len(stream))
		}
		if len(stream) > 0 {
			check(t, hello.Limits{}, stream, outcome(&p, verdict))
		}
		refused, named := verdict == hello.Refused, verdict == hello.Named
		if failed := refused || verdict == hello.NotTLS; (p.Err() != nil) != failed ||
			(p.Alert() != 0) != (refused || verdict == hello.NoName) || (p.ServerName() != "") != named {
			t.Fatalf("%v with alert %d, error %v and name %q", verdict, p.Alert(), p.Err(), p.ServerName())
		}
		switch {
		case !seen:
			// crypto/tls refuses more than a gateway should: what the server
			// must judge, and versions of records.
			return
		case verdict == hello.Refused && slices.Contains(stricter, p.Err()):
			return
		case verdict == hello.NotTLS && p.Bytes() == 2, errors.Is(p.Err(), hello.ErrRecordVersion):
			// RFC 8446 section 5.1 has every record bear version 3.x; crypto/tls
			// lets most others pass before a version is agreed.
			if stream[p.Bytes()-1] == 3 {
				t.Fatalf("a record of version 3.x was refused for its version: %v", p.Err())
			}
			return
		case verdict != hello.Named && verdict != hello.NoName:
			t.Fatalf("crypto/tls sees a hello for %q; we say %v: %v", name, verdict, p.Err())
		case p.ServerName() != name:
			t.Fatalf("crypto/tls sees %q; we see %q", name, p.ServerName())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, kind := range []string{"classic", "post-quantum"} {
		stream := goHello(goConfigs()[kind])
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				var p hello.Parser
				if p.Feed(stream) != hello.Named {
					b.Fatal(p.Err())
				}
			}
		})
	}
}
