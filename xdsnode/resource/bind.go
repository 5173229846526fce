package resource

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Why nobody can listen, or connect, at an address. An Envoy refuses the listener or
// cluster, and whoever asks for all of a type at a time gets none of it then.
var (
	errNoIP     = errors.New("it is no IP address")
	errNoPort   = errors.New("there is no such port")
	errLongPath = errors.New("the path of a socket has at most 107 bytes")
	errMode     = errors.New("it is no octal mode like 0600")
)

// longestPath is the longest path of a socket that Linux takes.
const longestPath = 107

// widestMode is the last mode of a socket that an Envoy takes.
const widestMode = 0o777

// listening is the address of a listener.
func listening(address string, port uint32) (*core.Address, error) {
	if !isIP(address) {
		return nil, fmt.Errorf("%q: %w", address, errNoIP)
	}
	if port == 0 || port > maxPort {
		return nil, fmt.Errorf("%d: %w", port, errNoPort)
	}
	return socket(address, port), nil
}

// isIP reports whether an Envoy takes an address as one of IP: without the zone of a link.
func isIP(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.Zone() == ""
}

// pipeOf is the address of a listener at a path, with its mode as octal digits.
func pipeOf(path, mode string) (*core.Address, error) {
	if len(path) > longestPath {
		return nil, fmt.Errorf("%q: %w", path, errLongPath)
	}
	if mode == "" {
		return pipe(path, 0), nil
	}
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || bits > widestMode {
		return nil, fmt.Errorf("%q: %w", mode, errMode)
	}
	return pipe(path, uint32(bits)), nil
}

// bindsOf are where a listener listens. A port that the machine chooses is nobody else's.
func bindsOf(l *listenerv3.Listener) []string {
	addresses := []*core.Address{l.GetAddress()}
	for _, more := range l.GetAdditionalAddresses() {
		addresses = append(addresses, more.GetAddress())
	}
	var out []string
	for _, a := range addresses {
		at, path := a.GetSocketAddress(), a.GetPipe().GetPath()
		switch ip, err := netip.ParseAddr(at.GetAddress()); {
		case path != "":
			out = append(out, path)
		case err == nil && at.GetPortValue() != 0:
			out = append(out, netip.AddrPortFrom(ip, uint16(at.GetPortValue())).String()) //nolint:gosec // A larger one is none, and refused.
		}
	}
	return out
}

// Taken says that a resource is left out: another one has its name, or its address.
func Taken(r *Resource, by string) *isthmusv1.Problem {
	kind := string(r.Type)[strings.LastIndexByte(string(r.Type), '.')+1:]
	return &isthmusv1.Problem{
		Code: CodeInvalidSetting, Severity: isthmusv1.Severity_SEVERITY_ERROR,
		Text: fmt.Sprintf("%s %s is left out: its name or its address is that of %s", kind, r.Name, by), Fix: "give one of the two another one",
	}
}
