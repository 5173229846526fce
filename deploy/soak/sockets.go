package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// The states of a socket that are of use here, as the kernel numbers them.
const (
	socketHandshake = 3
	socketListens   = 10
)

// socket is one of an address, as /proc/net/tcp has it.
type socket struct {
	state int
	// queued is, of one that listens, how many connections are not accepted.
	queued int
}

// socketsAt are the IPv4 sockets whose local address is the given one.
func socketsAt(address string) ([]socket, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseSockets(file, at)
}

// parseSockets reads lines of /proc/net/tcp, where an address is the four bytes
// as a number of this machine, in hexadecimal, and so are all other numbers.
func parseSockets(in io.Reader, at netip.AddrPort) (out []socket, err error) {
	ip := at.Addr().As4()
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), at.Port())
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[1] != local {
			continue
		}
		state, err := strconv.ParseInt(fields[3], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("/proc/net/tcp: state: %w", err)
		}
		_, received, _ := strings.Cut(fields[4], ":")
		queued, err := strconv.ParseInt(received, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/net/tcp: queue: %w", err)
		}
		out = append(out, socket{state: int(state), queued: int(queued)})
	}
	return out, lines.Err()
}
