package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, versions 1 and 2, as a load balancer in front of the
// gateway sends it. It is read for records only, from networks that were
// listed, and never sent on.

var (
	// ErrNoProxyHeader indicates that the bytes do not begin with a header.
	ErrNoProxyHeader = errors.New("no PROXY header")
	// ErrProxyHeader indicates a header that breaks the protocol.
	ErrProxyHeader = errors.New("malformed PROXY header")
)

const (
	proxyV1 = "PROXY "
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"
	// proxyV1Max is the longest header of version 1 with its line end.
	proxyV1Max = 107
	// proxyV2Fixed is the length of a header of version 2 up to its addresses.
	proxyV2Fixed = 16
	// proxyV2Max bounds what we take of version 2: addresses and extensions.
	proxyV2Max = 4096
)

// ParseProxyHeader reads a header at the start of b. A length of 0 without an
// error means that more bytes are needed. The source is not valid when the
// header states none (UNKNOWN, LOCAL, unix sockets).
func ParseProxyHeader(b []byte) (source netip.AddrPort, length int, err error) {
	switch {
	case hasPrefixSoFar(b, proxyV1):
		return parseProxyV1(b)
	case hasPrefixSoFar(b, proxyV2):
		return parseProxyV2(b)
	}
	return netip.AddrPort{}, 0, ErrNoProxyHeader
}

// hasPrefixSoFar reports whether b begins with the prefix, or is a part of it.
func hasPrefixSoFar(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

func parseProxyV1(b []byte) (source netip.AddrPort, length int, err error) {
	end := bytes.Index(b[:min(len(b), proxyV1Max)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= proxyV1Max {
			return source, 0, ErrProxyHeader
		}
		return source, 0, nil
	}
	fields := strings.Split(string(b[:end]), " ")
	length = end + 2
	if fields[1] == "UNKNOWN" {
		return source, length, nil
	}
	if len(fields) != 6 {
		return source, 0, ErrProxyHeader
	}
	from, fromErr := parseProxyAddress(fields[1], fields[2], fields[4])
	_, toErr := parseProxyAddress(fields[1], fields[3], fields[5])
	if fromErr != nil || toErr != nil {
		return source, 0, ErrProxyHeader
	}
	return from, length, nil
}

func parseProxyAddress(family, address, port string) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(address)
	fits := err == nil && (family == "TCP4" && ip.Is4() || family == "TCP6" && ip.Is6())
	if !fits || ip.Zone() != "" {
		return netip.AddrPort{}, ErrProxyHeader
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, ErrProxyHeader
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

func parseProxyV2(b []byte) (source netip.AddrPort, length int, err error) {
	if len(b) < proxyV2Fixed {
		return source, 0, nil
	}
	command, family := b[12], b[13]
	length = proxyV2Fixed + int(binary.BigEndian.Uint16(b[14:]))
	if command>>4 != 2 || command&0xf > 1 || length > proxyV2Max {
		return source, 0, ErrProxyHeader
	}
	if len(b) < length {
		return source, 0, nil
	}
	if command&0xf == 0 {
		// LOCAL: the balancer speaks for itself.
		return source, length, nil
	}
	addresses := b[proxyV2Fixed:length]
	switch family {
	case 0x11:
		return proxyV2Source[[4]byte](addresses, 4, length, netip.AddrFrom4)
	case 0x21:
		return proxyV2Source[[16]byte](addresses, 16, length, netip.AddrFrom16)
	}
	return source, length, nil
}

// proxyV2Source reads source and destination address, source and destination
// port; extensions may follow.
func proxyV2Source[A [4]byte | [16]byte](b []byte, size, length int, addr func(A) netip.Addr) (netip.AddrPort, int, error) {
	if len(b) < 2*size+4 {
		return netip.AddrPort{}, 0, ErrProxyHeader
	}
	return netip.AddrPortFrom(addr(A(b[:size])), binary.BigEndian.Uint16(b[2*size:])), length, nil
}
