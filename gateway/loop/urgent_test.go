//go:build linux

package loop_test

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// Urgent data is left out, as every reader does that does not ask for it; what
// comes before and behind it arrives, also in a flow that is big.
func TestUrgentData(t *testing.T) {
	f := newFar(t, "127.0.0.1")
	s := serveOn(t, 1, engine.Config{}, setOf(f.address))
	c := dialTo(t, s.address)
	say(t, c, greeting)
	on := f.next(t)
	hears(t, on, greeting)
	part := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		go func() {
			_, _ = c.Write(part)
			_ = raw.Write(func(fd uintptr) bool { return unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) != unix.EAGAIN })
			_, _ = c.Write(part)
		}()
		// A second urgent byte before the first was read makes that an ordinary one.
		hears(t, on, part)
		hears(t, on, part)
	}
	_ = c.CloseWrite()
	ends(t, on, io.EOF)
}
