package engine

import (
	"errors"
	"fmt"
	"syscall"
)

// Settings of congestion control.
const (
	// CongestionAuto is the system's algorithm, unless it paces.
	CongestionAuto = "auto"
	// CongestionSystem is the system's algorithm.
	CongestionSystem = "system"
)

// ErrCongestionControl indicates a setting that is none.
var ErrCongestionControl = errors.New("there is no such congestion control")

// CongestionControl returns the algorithm that the near side of connections is to
// have, the one in the own datacenter, by a setting: [CongestionAuto] or
// [CongestionSystem]. Empty: all are left as they are. The error is
// [ErrCongestionControl].
//
// BBR, where it is the system's, is for long ways: it sends by a timer, at the rate
// that it finds. Within a datacenter that gains nothing, and costs a gateway more than
// a third of what it could carry (ADR 0014). There auto has reno, which every process
// may choose and which, unlike cubic, hardly paces on where BBR has begun to. See
// tcp(7).
func CongestionControl(setting string) (string, error) {
	switch setting {
	case CongestionAuto:
		return unpaced(), nil
	case CongestionSystem:
		return "", nil
	}
	return "", fmt.Errorf("%w: %q; it is %s or %s", ErrCongestionControl, setting, CongestionAuto, CongestionSystem)
}

// SetCongestionControl has a connection use what [CongestionControl] returned.
func SetCongestionControl(c syscall.Conn, algorithm string) {
	if algorithm == "" {
		return
	}
	// Without it there is a connection all the same.
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { setCongestion(fd, algorithm) })
	}
}
