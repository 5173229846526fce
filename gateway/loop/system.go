//go:build linux

package loop

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// system is the kernel as it is. Calls that cannot block go around Go's
// scheduler, which would otherwise prepare for each that it does. Pointers become
// numbers within the call itself, as package unsafe demands.
type system struct {
	epoll, event int
	// raw is where events are put.
	raw [maxEvents]unix.EpollEvent
	// name and nameLength are the address of an accepted peer, target that of an
	// endpoint.
	name       unix.RawSockaddrAny
	nameLength uint32
	target     unix.RawSockaddrAny
	counter    [8]byte
	// unpaced is a congestion control that does not pace. Empty: the system's does not,
	// or is to stay.
	unpaced []byte
	// closing are the descriptors that are given back before the next wait.
	closing []int
}

// maxEvents is how many events one wait takes.
const maxEvents = 128

// wakeToken is the event descriptor's. Generation 0 is no connection's.
const wakeToken token = 1<<32 - 1

func newSystem(unpaced string) (*system, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	s := &system{epoll: epoll, unpaced: []byte(unpaced)}
	if s.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(epoll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := s.control(unix.EPOLL_CTL_ADD, s.event, wakeToken, unix.EPOLLIN); err != 0 {
		s.free()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return s, nil
}

// free closes what the system has of its own.
func (s *system) free() {
	s.flush()
	_ = unix.Close(s.event)
	_ = unix.Close(s.epoll)
}

func (s *system) wait(events []event, longest time.Duration) int {
	most := min(len(events), maxEvents)
	s.flush()
	n := s.sleep(most, longest)
	kept := 0
	for i := range s.raw[:n] {
		raw := &s.raw[i]
		t := token(uint32(raw.Fd)) | token(uint32(raw.Pad))<<32
		if t == wakeToken {
			_, _, _ = syscall.RawSyscall(unix.SYS_READ, uintptr(s.event), uintptr(unsafe.Pointer(&s.counter)), unsafe.Sizeof(s.counter))
			continue
		}
		const ended = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
		events[kept] = event{
			token:    t,
			readable: raw.Events&(unix.EPOLLIN|ended) != 0,
			writable: raw.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0,
			hung:     raw.Events&(unix.EPOLLPRI|ended) != 0,
			broken:   raw.Events&unix.EPOLLERR != 0,
		}
		kept++
	}
	return kept
}

// poll takes what has happened, or happens within a time so short that Go need
// not know of the wait.
func (s *system) poll(most, milliseconds int) int {
	n, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), uintptr(unsafe.Pointer(&s.raw[0])), uintptr(most), uintptr(milliseconds), 0, 0)
	if err != 0 {
		return 0 // A signal came: there is another turn.
	}
	return int(n)
}

// nap is how many milliseconds a loop waits before it tells Go that it does. To a
// loop that is woken all the time, telling costs more than what it does: the
// runtime's monitor takes the processor away from whoever waits, and wakes up
// more often to do so. It is less than the ten after which the monitor wants a
// goroutine to make room; a collection's signal ends it at once.
const nap = 8

// sleep waits for something to happen.
func (s *system) sleep(most int, longest time.Duration) int {
	milliseconds, first := -1, nap
	if longest >= 0 {
		milliseconds = int(min((longest + time.Millisecond - 1).Milliseconds(), 1<<30))
		first = min(milliseconds, nap)
	}
	if n := s.poll(most, first); n > 0 || first == milliseconds {
		return n
	}
	n, _, err := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), uintptr(unsafe.Pointer(&s.raw[0])), uintptr(most), uintptr(milliseconds), 0, 0)
	if err != 0 {
		return 0
	}
	return int(n)
}

func (s *system) wake() {
	one := [8]byte{}
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(s.event, one[:])
}

func (s *system) listen(fd int, t token) syscall.Errno {
	// Of several loops that wait, one is woken.
	return s.control(unix.EPOLL_CTL_ADD, fd, t, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
}

func (s *system) watch(fd int, t token, writes bool) syscall.Errno {
	const reads = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET
	interest := uint32(reads)
	if writes {
		interest |= unix.EPOLLOUT
	}
	err := s.control(unix.EPOLL_CTL_ADD, fd, t, interest)
	if err == syscall.EEXIST {
		err = s.control(unix.EPOLL_CTL_MOD, fd, t, interest)
	}
	return err
}

func (s *system) unwatch(fd int) { _ = s.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (s *system) control(operation, fd int, t token, interest uint32) syscall.Errno {
	e := unix.EpollEvent{Events: interest, Fd: int32(uint32(t)), Pad: int32(uint32(t >> 32))}
	_, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.epoll), uintptr(operation), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	return err
}

func (s *system) accept(listener int) (int, netip.AddrPort, syscall.Errno) {
	for {
		s.nameLength = unix.SizeofSockaddrAny
		fd, _, err := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&s.name)),
			uintptr(unsafe.Pointer(&s.nameLength)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if err == 0 {
			return int(fd), addressOf(&s.name), 0
		}
		if err != syscall.EINTR {
			return -1, netip.AddrPort{}, err
		}
	}
}

func (s *system) dial(address netip.AddrPort, greeted bool) (int, syscall.Errno) {
	length := fillAddress(&s.target, address)
	fd, _, err := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(s.target.Addr.Family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != 0 {
		return -1, err
	}
	s.setInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if greeted {
		// On this side it means that the end of the handshake waits for what is
		// to be written and goes with it: a packet less, and the endpoint is woken
		// once instead of twice.
		s.setInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1)
	}
	_, _, err = syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&s.target)), uintptr(length))
	if err != 0 && err != syscall.EINPROGRESS && err != syscall.EINTR {
		s.close(int(fd))
		return -1, err
	}
	return int(fd), 0
}

func (s *system) outcome(fd int) syscall.Errno {
	value, length := int32(0), uint32(4)
	_, _, err := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&length)), 0)
	if err != 0 {
		return err
	}
	return syscall.Errno(value)
}

func (s *system) read(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		if err != syscall.EINTR {
			return count(n, err), err
		}
	}
}

func (s *system) write(fd int, b []byte) (int, syscall.Errno) {
	for {
		// Unlike write(2) it raises no signal on a broken connection.
		n, _, err := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if err != syscall.EINTR {
			return count(n, err), err
		}
	}
}

func count(n uintptr, err syscall.Errno) int {
	if err != 0 {
		return 0
	}
	return int(n)
}

// pipeSize is asked for; a process without rights may get less when it has many.
const pipeSize = 1 << 20

func (s *system) pipe() (read, write, size int, err syscall.Errno) {
	var p [2]int32
	if _, _, err := syscall.RawSyscall(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&p)), unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != 0 {
		return -1, -1, 0, err
	}
	got, _, err := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p[0]), unix.F_SETPIPE_SZ, pipeSize)
	if err != 0 {
		if got, _, err = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p[0]), unix.F_GETPIPE_SZ, 0); err != 0 {
			s.close(int(p[0]))
			s.close(int(p[1]))
			return -1, -1, 0, err
		}
	}
	return int(p[0]), int(p[1]), int(got), 0
}

func (s *system) splice(from, to, most int) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != syscall.EINTR {
			return count(n, err), err
		}
	}
}

func (s *system) keepAlive(fd int, k table.Keepalive) {
	s.setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	s.setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int32(k.Idle/time.Second))
	s.setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int32(k.Interval/time.Second))
	s.setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, int32(k.Count))
}

func (s *system) userTimeout(fd int, after time.Duration) {
	s.setInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int32(min(after.Milliseconds(), 1<<30)))
}

func (s *system) unpace(fd int) {
	if len(s.unpaced) > 0 {
		_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION,
			uintptr(unsafe.Pointer(&s.unpaced[0])), uintptr(len(s.unpaced)), 0)
	}
}

func (s *system) setInt(fd, level, option int, value int32) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&value)), 4, 0)
}

func (s *system) shutdown(fd int) {
	_, _, _ = syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// close gives a descriptor back before the next wait. Each close wakes somebody,
// and so does each byte that is written; together they let those run in one go who
// were woken, and the loop does not lose the processor in between.
func (s *system) close(fd int) { s.closing = append(s.closing, fd) }

// flush closes at once.
func (s *system) flush() {
	for _, fd := range s.closing {
		_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	}
	s.closing = s.closing[:0]
}

func (s *system) reset(fd int) {
	linger := unix.Linger{Onoff: 1}
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	s.close(fd)
}

// addressOf reads an address; that of IPv4 is one, in whatever form it came.
func addressOf(name *unix.RawSockaddrAny) netip.AddrPort {
	switch name.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), networkOrder(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(name))
		ip := netip.AddrFrom16(in.Addr).Unmap()
		if in.Scope_id != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(in.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, networkOrder(in.Port))
	}
	return netip.AddrPort{}
}

// fillAddress writes an address and returns its length.
func fillAddress(name *unix.RawSockaddrAny, address netip.AddrPort) int {
	ip := address.Addr().Unmap()
	if ip.Is4() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(address.Port()), Addr: ip.As4()}
		return unix.SizeofSockaddrInet4
	}
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(name))
	*in = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(address.Port()), Addr: ip.As16(), Scope_id: scopeOf(ip.Zone())}
	return unix.SizeofSockaddrInet6
}

// networkOrder swaps the bytes of a port where the machine's order needs it.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// scopeOf is the number of an IPv6 zone; 0 if there is none.
func scopeOf(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(i.Index)
}
