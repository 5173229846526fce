package wan

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// deviceName is that of the TUN device in its namespace.
const deviceName = "wan0"

// device makes the TUN device of this side, with its address, and returns what
// reads the packets that leave here and takes those that come.
func (s *Side) device() (device *os.File, err error) {
	err = s.Do(func() error {
		device, err = openDevice(s.address)
		return err
	})
	return device, err
}

// openDevice makes the device in the namespace of the calling thread.
func openDevice(address netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, forbidden("open /dev/net/tun", err)
	}
	if err := attach(fd, address); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Only now: a descriptor without a device would not be taken by the poller.
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// attach gives the descriptor its device, and the device its settings.
func attach(fd int, address netip.Addr) error {
	request, err := unix.NewIfreq(deviceName)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return forbidden("TUNSETIFF", err)
	}
	for _, set := range []struct {
		call  uint
		value [4]byte
	}{{unix.SIOCSIFADDR, address.As4()}, {unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 0}}} {
		request, err := unix.NewIfreq(deviceName)
		if err == nil {
			err = request.SetInet4Addr(set.value[:])
		}
		if err == nil {
			err = control(set.call, request)
		}
		if err != nil {
			return fmt.Errorf("the address of %s: %w", deviceName, err)
		}
	}
	request, err = unix.NewIfreq(deviceName)
	if err != nil {
		return err
	}
	request.SetUint32(mtu)
	if err := control(unix.SIOCSIFMTU, request); err != nil {
		return fmt.Errorf("the MTU of %s: %w", deviceName, err)
	}
	return up(deviceName)
}

// up switches a device of the thread's namespace on.
func up(name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := control(unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}

// control asks for one setting of a device in the thread's namespace.
func control(call uint, request *unix.Ifreq) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlIfreq(fd, call, request); err != nil {
		return forbidden("ioctl", err)
	}
	return nil
}
