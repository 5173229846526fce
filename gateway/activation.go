package gateway

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// firstActivated is the first descriptor of systemd's activation protocol
// (sd_listen_fds(3)).
const firstActivated = 3

// activated returns the listeners that systemd gave this process, by their names
// (FileDescriptorName=; "unknown" when there is none). They are for this process
// only if LISTEN_PID is its id.
func activated(environment func(string) string, pid int, file func(fd uintptr, name string) *os.File) ([]namedListener, error) {
	if environment("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	count, err := strconv.Atoi(environment("LISTEN_FDS"))
	if err != nil || count < 0 {
		return nil, fmt.Errorf("gateway: LISTEN_FDS is %q, not a number", environment("LISTEN_FDS"))
	}
	names := strings.Split(environment("LISTEN_FDNAMES"), ":")
	var out []namedListener
	for i := range count {
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		listener, err := listenerOf(file(uintptr(firstActivated+i), name))
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			return nil, fmt.Errorf("gateway: descriptor %d (%s) of systemd: %w", firstActivated+i, name, err)
		}
		out = append(out, namedListener{name, listener})
	}
	return out, nil
}
