package engine

import (
	"strings"

	"golang.org/x/sys/unix"
)

// unpaced is what connections are to have that are not to be paced; empty if they are
// not anyway, cannot be helped, or nobody can say.
func unpaced() string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	system, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return ""
	}
	return unpacedBeside(system, func(name string) bool { return setCongestion(uintptr(fd), name) })
}

// unpacedBeside is that beside what the system has, by what can be set.
func unpacedBeside(system string, set func(name string) bool) string {
	const reno = "reno"
	if strings.HasPrefix(system, "bbr") && set(reno) {
		return reno
	}
	return ""
}

func setCongestion(fd uintptr, algorithm string) bool {
	return unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, algorithm) == nil
}
