package engine

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// proxyV2Header is a header of version 2.
func proxyV2Header(command, family byte, addresses []byte) []byte {
	b := append([]byte(proxyV2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	return append(b, addresses...)
}

var (
	v4 = []byte{192, 0, 2, 1, 192, 0, 2, 2, 0x1f, 0x90, 0, 80}
	v6 = append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()...), 0x1f, 0x90, 0, 80)
)

func TestProxyHeader(t *testing.T) {
	text := func(s string) []byte { return []byte(s) }
	for _, test := range []struct {
		name   string
		header []byte
		source string
		err    error
	}{
		{"version 1, IPv4", text("PROXY TCP4 192.0.2.1 192.0.2.2 8080 80\r\n"), "192.0.2.1:8080", nil},
		{"version 1, IPv6", text("PROXY TCP6 2001:db8::1 2001:db8::2 8080 80\r\n"), "[2001:db8::1]:8080", nil},
		{"version 1, unknown", text("PROXY UNKNOWN\r\n"), "", nil},
		{"version 1, unknown with more", text("PROXY UNKNOWN ffff::1 x y z\r\n"), "", nil},
		{"version 2, IPv4", proxyV2Header(0x21, 0x11, v4), "192.0.2.1:8080", nil},
		{"version 2, IPv4 with extensions", proxyV2Header(0x21, 0x11, append(v4[:12:12], 4, 0, 1, 9)), "192.0.2.1:8080", nil},
		{"version 2, IPv6", proxyV2Header(0x21, 0x21, v6), "[2001:db8::1]:8080", nil},
		{"version 2, local", proxyV2Header(0x20, 0, nil), "", nil},
		{"version 2, local with addresses", proxyV2Header(0x20, 0x11, v4), "", nil},
		{"version 2, unix", proxyV2Header(0x21, 0x31, make([]byte, 216)), "", nil},
		{"version 2, the longest", proxyV2Header(0x21, 0, make([]byte, proxyV2Max-proxyV2Fixed)), "", nil},

		{"the first byte of TLS", text("\x16"), "", ErrNoProxyHeader},
		{"another word", text("POST"), "", ErrNoProxyHeader},
		{"another signature", text("\r\n\r\n\x01"), "", ErrNoProxyHeader},

		{"version 1, another family", text("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n"), "", ErrProxyHeader},
		{"version 1, the wrong family", text("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), "", ErrProxyHeader},
		{"version 1, the wrong family of the destination", text("PROXY TCP4 192.0.2.1 2001:db8::2 1 2\r\n"), "", ErrProxyHeader},
		{"version 1, IPv4 as IPv6", text("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"), "", ErrProxyHeader},
		{"version 1, a zone", text("PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n"), "", ErrProxyHeader},
		{"version 1, a port too big", text("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"), "", ErrProxyHeader},
		{"version 1, a destination without a port", text("PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n"), "", ErrProxyHeader},
		{"version 1, too few fields", text("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n"), "", ErrProxyHeader},
		{"version 1, too many fields", text("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), "", ErrProxyHeader},
		{"version 1, no end", text("PROXY UNKNOWN " + strings.Repeat("x", proxyV1Max)), "", ErrProxyHeader},
		{"version 1, an end too late", text("PROXY UNKNOWN " + strings.Repeat("x", proxyV1Max-15) + "\r\n"), "", ErrProxyHeader},
		{"version 1, the latest end", text("PROXY UNKNOWN " + strings.Repeat("x", proxyV1Max-16) + "\r\n"), "", nil},
		{"version 2 of another version", proxyV2Header(0x31, 0x11, v4), "", ErrProxyHeader},
		{"version 2, another command", proxyV2Header(0x22, 0x11, v4), "", ErrProxyHeader},
		{"version 2, addresses too short", proxyV2Header(0x21, 0x11, v4[:11]), "", ErrProxyHeader},
		{"version 2, IPv6 addresses too short", proxyV2Header(0x21, 0x21, v6[:35]), "", ErrProxyHeader},
		{"version 2, too long", proxyV2Header(0x21, 0, make([]byte, proxyV2Max)), "", ErrProxyHeader},
	} {
		t.Run(test.name, func(t *testing.T) {
			source, length, err := ParseProxyHeader(append(test.header[:len(test.header):len(test.header)], "rest"...))
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v; want %v", err, test.err)
			}
			if err != nil {
				return
			}
			if length != len(test.header) {
				t.Errorf("%d bytes long; want %d", length, len(test.header))
			}
			if source.IsValid() != (test.source != "") || source.IsValid() && source.String() != test.source {
				t.Errorf("source %v; want %s", source, test.source)
			}
			for i := range test.header {
				if _, n, err := ParseProxyHeader(test.header[:i]); n != 0 || err != nil {
					t.Fatalf("after %d bytes: length %d, error %v; want more to be needed", i, n, err)
				}
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 8080 80\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(proxyV2Header(0x21, 0x11, v4))
	f.Add(proxyV2Header(0x21, 0x21, v6))
	f.Fuzz(func(t *testing.T, b []byte) {
		source, length, err := ParseProxyHeader(b)
		if length < 0 || length > len(b) || length > proxyV2Max {
			t.Fatalf("%d bytes long, of %d", length, len(b))
		}
		if err != nil && (length != 0 || source.IsValid()) {
			t.Fatalf("an error with a source %v and a length %d", source, length)
		}
		if err == nil && length == 0 && len(b) >= proxyV2Max {
			t.Fatal("more is needed for ever")
		}
		// More bytes do not change what was decided.
		if err != nil || length > 0 {
			again, n, err2 := ParseProxyHeader(append(b[:len(b):len(b)], 'x'))
			if again != source || n != length || !errors.Is(err2, err) {
				t.Fatalf("with one byte more: %v %d %v; before %v %d %v", again, n, err2, source, length, err)
			}
		}
	})
}
