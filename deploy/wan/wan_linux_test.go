package wan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a link, or skips the test where that is not allowed; under CI it
// fails.
func open(t *testing.T, o Options) *Link {
	t.Helper()
	l, err := Open(o)
	if errors.Is(err, ErrForbidden) && os.Getenv("CI") == "" {
		t.Skipf("!!! NOT TESTED OVER A WAN: %v !!!", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pair is a connection from left to right.
func pair(t *testing.T, l *Link) (left, right *net.TCPConn) {
	t.Helper()
	listener, err := l.Right.Listen(netip.AddrPortFrom(l.Right.Address(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	left, err = l.Left.Dial(t.Context(), listener.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	if right, err = listener.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return left, right
}

// Nothing arrives before its time: connecting is one round trip, and so are a
// question and its answer.
func TestARoundTripTakesTwiceTheDelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	l := open(t, Options{Delay: delay})
	defer l.Close()
	begin := time.Now()
	left, right := pair(t, l)
	defer left.Close()
	defer right.Close()
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("connecting took %v; two delays of %v are the least", took, delay)
	}
	echoed := make(chan error, 1)
	go func() {
		_, err := io.Copy(right, right)
		echoed <- errors.Join(err, right.CloseWrite())
	}()
	for range 3 {
		begin = time.Now()
		if _, err := left.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(left, make([]byte, len("question"))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 2*delay {
			t.Errorf("an answer took %v; two delays of %v are the least", took, delay)
		}
	}
	_ = left.CloseWrite()
	if _, err := left.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v; want that it was passed on", err)
	}
	if err := <-echoed; err != nil {
		t.Error(err)
	}
}

// Long streams arrive as they were sent, both ways at once.
func TestStreamsArriveUnchanged(t *testing.T) {
	const length = 50 << 20
	l := open(t, Options{Delay: time.Millisecond})
	defer l.Close()
	left, right := pair(t, l)
	defer left.Close()
	defer right.Close()
	sums := make(chan [sha256.Size]byte, 4)
	problems := make(chan error, 4)
	for i, conn := range []*net.TCPConn{left, right} {
		go func() {
			sum := sha256.New()
			_, err := io.Copy(io.MultiWriter(conn, sum), io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), length))
			problems <- errors.Join(err, conn.CloseWrite())
			sums <- [sha256.Size]byte(sum.Sum(nil))
		}()
		go func() {
			sum := sha256.New()
			n, err := io.Copy(sum, conn)
			if n != length {
				err = errors.Join(err, errors.New("too short, or too long"))
			}
			problems <- err
			sums <- [sha256.Size]byte(sum.Sum(nil))
		}()
	}
	seen := map[[sha256.Size]byte]int{}
	for range 4 {
		if err := <-problems; err != nil {
			t.Error(err)
		}
		seen[<-sums]++
	}
	for sum, times := range seen {
		if times != 2 {
			t.Errorf("a stream of sum %x was seen at %d ends; want 2", sum, times)
		}
	}
	if s := l.Stats(); s.Carried < 2*length/mtu {
		t.Errorf("%+v: too few packets to have carried it", s)
	}
}

// Each side has a loopback and an address of its own, and nothing else.
func TestSidesAreApart(t *testing.T) {
	l := open(t, Options{})
	defer l.Close()
	address := netip.MustParseAddrPort("127.0.0.1:20000")
	for _, side := range []*Side{l.Left, l.Right} {
		listener, err := side.Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		err = side.Do(func() error {
			addresses, err := net.InterfaceAddrs()
			for _, a := range addresses {
				ip := netip.MustParsePrefix(a.String()).Addr()
				if !ip.IsLoopback() && ip != side.Address() && !ip.IsLinkLocalUnicast() {
					t.Errorf("%v has the address %v", side.Address(), ip)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// A program that is started on a side sees that side's network, and ends with the
// link if it is told to.
func TestAProgramRunsOnItsSide(t *testing.T) {
	l := open(t, Options{})
	var out bytes.Buffer
	command := exec.Command("cat", "/proc/self/net/dev")
	command.Stdout = &out
	if err := l.Right.Start(command); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), deviceName+":") {
		t.Errorf("it does not see the device of its side:\n%s", &out)
	}
	l.Close()
	ours, err := os.ReadFile("/proc/self/net/dev")
	if err != nil || strings.Contains(string(ours), deviceName+":") {
		t.Errorf("this process itself is in a namespace of the link (%v):\n%s", err, ours)
	}
}

// A silent link lets nothing through, and tells no one; later it carries again.
func TestSilence(t *testing.T) {
	l := open(t, Options{})
	defer l.Close()
	left, right := pair(t, l)
	defer left.Close()
	defer right.Close()
	l.Silence(true)
	if _, err := left.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := l.Left.Dial(ctx, netip.AddrPortFrom(l.Right.Address(), 1))
	if late, is := errors.AsType[net.Error](err); !is || !late.Timeout() {
		t.Errorf("over a silent link: %v; want no answer, not even a refusal", err)
	}
	l.Silence(false)
	if _, err := io.ReadFull(right, make([]byte, 1)); err != nil {
		t.Errorf("TCP did not bring it later: %v", err)
	}
	if s := l.Stats(); s.Dropped == 0 {
		t.Errorf("%+v: nothing was swallowed", s)
	}
}

// What is under way is bounded: the rest is dropped, and counted.
func TestTheQueueIsBounded(t *testing.T) {
	const queue, sent = 8, 30
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	from, sender := os.NewFile(uintptr(ends[0]), "from"), os.NewFile(uintptr(ends[1]), "sender")
	defer from.Close()
	for i := range sent {
		if _, err := sender.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	sender.Close()
	l := newLine(from, nil, Options{Queue: queue}, nil)
	l.take()
	if got := l.dropped.Load(); got != sent-queue || len(l.queue) != queue {
		t.Errorf("%d dropped and %d under way of %d; want %d under way", got, len(l.queue), sent, queue)
	}
	for i := range queue {
		if p := <-l.queue; p.length != 1 || p.buffer[0] != byte(i) {
			t.Errorf("packet %d in the queue is number %d", i, p.buffer[0])
		}
	}
}

// A link that is closed does not wait for what is under way.
func TestCloseWaitsForNothing(t *testing.T) {
	l := open(t, Options{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := l.Left.Dial(ctx, netip.AddrPortFrom(l.Right.Address(), 1)); err == nil {
		t.Error("connected, in less than a round trip")
	}
	l.Close()
}

// Whatever a link took is given back.
func TestCloseLeavesNothing(t *testing.T) {
	open(t, Options{}).Close() // The poller's own descriptors are made once.
	before := descriptors(t)
	for range 5 {
		l := open(t, Options{Delay: time.Millisecond})
		left, right := pair(t, l)
		_, _ = left.Write([]byte("under way"))
		left.Close()
		right.Close()
		l.Close()
	}
	// What an earlier test has left to the collector may be closed meanwhile.
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
