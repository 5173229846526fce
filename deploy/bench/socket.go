package main

import (
	"errors"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The load and the backend share the proxies' cores, so they are made light: one
// thread each, over epoll. What net.Conn costs more would hide a difference
// between two proxies.

// ownThreads gives goroutines that are about to lock their threads a processor of Go's
// each, beside those that there are, until the returned function is called: whoever
// waits for one is late, and that is no proxy's fault.
func ownThreads(count int) (restore func()) {
	before := runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + count)
	return func() { runtime.GOMAXPROCS(before) }
}

// poller is an epoll set.
type poller struct {
	descriptor int
	events     [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	descriptor, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{descriptor: descriptor}, err
}

// add has the poller report what happens to a descriptor, under a key.
func (p *poller) add(descriptor int, events uint32, key int) error {
	return unix.EpollCtl(p.descriptor, unix.EPOLL_CTL_ADD, descriptor, &unix.EpollEvent{Events: events, Fd: int32(key)})
}

// change has it report something else.
func (p *poller) change(descriptor int, events uint32, key int) error {
	return unix.EpollCtl(p.descriptor, unix.EPOLL_CTL_MOD, descriptor, &unix.EpollEvent{Events: events, Fd: int32(key)})
}

// forever is a time to wait that is never over.
const forever time.Duration = -1

// nap is how many milliseconds are waited before Go is told. Its monitor would take the
// processor from whoever waits, and wake up thousands of times a second to do so: a fifth
// of a core, and in everybody's way.
const nap = 8

// wait blocks until something has happened or the time is over. What it returns is good until the next call.
func (p *poller) wait(most time.Duration) ([]unix.EpollEvent, error) {
	milliseconds, first := -1, nap
	if most >= 0 {
		milliseconds = int(most.Milliseconds())
		first = min(milliseconds, nap)
	}
	got, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.descriptor), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), uintptr(first), 0, 0)
	if errno == 0 && (got > 0 || first == milliseconds) {
		return p.events[:got], nil
	}
	n, err := unix.EpollWait(p.descriptor, p.events[:], milliseconds)
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	return p.events[:max(n, 0)], err
}

func (p *poller) close() { _ = unix.Close(p.descriptor) }

// resetOnClose has every close of a socket, and of those accepted from it, be a
// reset: nobody holds ports in TIME_WAIT.
func resetOnClose(descriptor int) error {
	return unix.SetsockoptLinger(descriptor, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// metronome is a timer that ticks a number of times each second, as a descriptor: Go's
// own timers stray by up to a millisecond.
func metronome(rate int) (int, error) {
	descriptor, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	every := unix.NsecToTimespec(int64(time.Second) / int64(rate))
	if err := unix.TimerfdSettime(descriptor, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		_ = unix.Close(descriptor)
		return -1, err
	}
	return descriptor, nil
}
