//go:build linux

package loop

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// realStage is Linux's.
type realStage struct {
	*system
	fd    int
	far   *net.TCPConn
	t     failer
	gone  bool
	ended bool
	// written is what the near end has, received what the far one has taken of it.
	written, received int
}

// close and reset close at once, as the simulated ones do: the scripts look at what
// the other side sees.
func (s *realStage) close(fd int) {
	s.system.close(fd)
	s.flush()
}

func (s *realStage) reset(fd int) {
	s.system.reset(fd)
	s.flush()
}

func newRealStage(t failer) *realStage {
	k, err := newSystem("")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, errno := k.dial(l.Addr().(*net.TCPAddr).AddrPort(), false)
	if errno != 0 {
		t.Fatal(errno)
	}
	far, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return &realStage{system: k, fd: fd, far: far, t: t}
}

func (s *realStage) free() {
	_ = s.far.Close()
	s.system.free()
}

func (s *realStage) near() int { return s.fd }

// state is that of the near end's connection.
func (s *realStage) state() uint8 {
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.State
}

const (
	tcpFinWait2 = 5
	tcpClose    = 7
)

// until waits for what the near end is to come to: poll(2) tells at once.
func (s *realStage) until(events int16) {
	p := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
	for {
		n, err := unix.Poll(p, 10_000)
		if n > 0 {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			s.t.Fatalf("nothing has come: %v", err)
		}
	}
}

func (s *realStage) shutdown(fd int) {
	s.system.shutdown(fd)
	// Behind bytes that find no room, the end does not arrive.
	for s.written-s.received < 50_000 && s.state() != tcpFinWait2 && s.state() != tcpClose {
	}
}

func (s *realStage) write(fd int, b []byte) (int, syscall.Errno) {
	n, err := s.system.write(fd, b)
	s.wrote(n)
	return n, err
}

func (s *realStage) splice(from, to, most int) (int, syscall.Errno) {
	n, err := s.system.splice(from, to, most)
	if to == s.fd {
		s.wrote(n)
	}
	return n, err
}

func (s *realStage) wrote(n int) {
	s.written += n
	if n > 0 && s.gone {
		s.until(0) // A reset answers it.
	}
}

func (s *realStage) silent() bool { return s.gone || s.ended || s.state() == tcpClose }

func (s *realStage) send(n int) {
	if s.silent() {
		return
	}
	before, _ := unix.IoctlGetInt(s.fd, unix.SIOCINQ)
	if _, err := s.far.Write(make([]byte, n)); err != nil {
		s.t.Fatal(err)
	}
	for now := before; now < before+n; now, _ = unix.IoctlGetInt(s.fd, unix.SIOCINQ) {
	}
}

func (s *realStage) end() {
	if !s.silent() {
		s.ended = true
		_ = s.far.CloseWrite()
		s.until(unix.POLLRDHUP)
	}
}

func (s *realStage) shutAll() {
	if !s.silent() {
		s.gone = true
		s.drainNow()
		_ = s.far.Close()
		s.until(unix.POLLRDHUP)
	}
}

func (s *realStage) abort() {
	if !s.silent() {
		s.gone = true
		_ = s.far.SetLinger(0)
		_ = s.far.Close()
		s.until(0)
	}
}

func (s *realStage) drain() {
	if !s.gone {
		s.drainNow()
	}
}

// drainNow reads all that the near end has written.
func (s *realStage) drainNow() {
	for b := make([]byte, 1<<20); s.received < s.written; {
		n, err := s.far.Read(b)
		s.received += n
		if err != nil {
			s.t.Fatal(err)
		}
	}
	// The near end hears that it was taken.
	for away := 1; away > 0; away, _ = unix.IoctlGetInt(s.fd, unix.SIOCOUTQ) {
	}
}

func (s *realStage) settle() {}

func (s *realStage) patience(comes bool) time.Duration {
	if comes {
		return 10 * time.Second
	}
	return 0
}

func (s *realStage) heard() string {
	if s.gone {
		return "nothing"
	}
	for {
		_, err := s.far.Read(make([]byte, 1<<20))
		var errno syscall.Errno
		switch {
		case errors.Is(err, io.EOF):
			return "an end"
		case errors.As(err, &errno):
			return errno.Error()
		case err != nil:
			return err.Error()
		}
	}
}
