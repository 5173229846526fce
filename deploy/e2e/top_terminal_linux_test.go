package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a terminal of a size: what a person sees and
// types at, and what a process has.
func openTerminal(t *testing.T, width, height uint16) (person, process *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	process, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
	return person, process
}

// stopped returns nil when a process is.
func stopped(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	if state := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(state, []byte(" T ")) {
		return fmt.Errorf("its state is%s", state[:2])
	}
	return nil
}

// On a terminal the table is drawn in place, and Ctrl-C leaves the terminal as it was
// before: settings, cursor and the shell's lines.
func TestTopLeavesTheTerminalAsItWas(t *testing.T) {
	w, l := topWorld(t)
	defer l.end()
	person, process := openTerminal(t, 60, 12)
	before, err := unix.IoctlGetTermios(int(process.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, "gateways", "top", "--nats", w.nats, "--interval", "100ms")
	command.Env = append(os.Environ(), "TERM=xterm")
	command.Stdin, command.Stdout, command.Stderr = process, process, process
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	readUntil := func(enough func() bool) {
		buffer := make([]byte, 4096)
		for !enough() {
			n, err := person.Read(buffer)
			if err != nil {
				t.Fatalf("%v after %q", err, seen.String())
			}
			seen.Write(buffer[:n])
		}
	}
	readUntil(func() bool { return bytes.Count(seen.Bytes(), []byte("\x1b[H")) >= 3 })
	entered := []byte("\x1b[?1049h\x1b[?25l\x1b[H")
	if !bytes.HasPrefix(seen.Bytes(), entered) || !bytes.Contains(seen.Bytes(), []byte("2 gateways")) {
		t.Errorf("it shows %q", seen.String())
	}
	left := []byte("\x1b[?25h\x1b[?1049l")
	press := func(key byte) {
		seen.Reset()
		if _, err := person.Write([]byte{key}); err != nil {
			t.Fatal(err)
		}
		// The terminal says which key it was, before that or after.
		readUntil(func() bool { return bytes.Contains(seen.Bytes(), left) })
	}
	press(0x1a) // Ctrl-Z
	await(t, "it goes on after Ctrl-Z", func(context.Context) error { return stopped(command.Process.Pid) })
	seen.Reset()
	if err := command.Process.Signal(syscall.SIGCONT); err != nil { // fg
		t.Fatal(err)
	}
	readUntil(func() bool {
		_, drawn, ok := bytes.Cut(seen.Bytes(), entered)
		return ok && bytes.Contains(drawn, []byte("\x1b[H"))
	})
	press(3) // Ctrl-C
	if err := command.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	after, err := unix.IoctlGetTermios(int(process.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the terminal is another: %s", diff)
	}
}
