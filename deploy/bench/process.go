package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running proxy with the processes that it started.
type process struct {
	command *exec.Cmd
	log     string
	done    chan struct{}
	err     error
}

// start runs a command until it is stopped; what it prints goes to a file.
func start(scratch, name string, arguments ...string) (*process, error) {
	return startBy((*exec.Cmd).Start, scratch, name, arguments...)
}

// startBy is start, where another starts the command.
func startBy(starter func(*exec.Cmd) error, scratch, name string, arguments ...string) (*process, error) {
	log, err := os.CreateTemp(scratch, filepath.Base(name)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{command: exec.Command(name, arguments...), log: log.Name(), done: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = log, log
	// A bench that is killed takes its proxies along.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := starter(p.command); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.command.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and ends it when it does not.
func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.command.Process.Kill()
		<-p.done
	}
}

// ready waits until a client gets its answer through the proxy.
func (p *process) ready(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		_, err := connection(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended before it was ready (%w):\n%s", errors.Join(p.err, err), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("not ready in time (%w):\n%s", err, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of what the process printed.
func (p *process) tail() string {
	content, _ := os.ReadFile(p.log)
	return string(content[max(0, len(content)-2000):])
}

// cpu is the processor time that the process and its children have used so far.
func (p *process) cpu() (time.Duration, error) { return family(p.command.Process.Pid).cpu() }

// memory is that of the process and its children.
func (p *process) memory() (int64, error) { return family(p.command.Process.Pid).memory() }

// family is a process, by its id, with all that descend from it.
type family int

// tree lists the processes.
func (f family) tree() ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range stats {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // It has just ended.
		}
		s, err := parseStat(string(content))
		if err != nil {
			return nil, err
		}
		children[s.parent] = append(children[s.parent], s.pid)
	}
	all := []int{int(f)}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// cpu is the processor time that the processes, with all their threads, have used
// so far. It is read from their clocks: /proc/PID/stat has the same sum in whole
// hundredths of a second, which is coarse for a short round.
func (f family) cpu() (time.Duration, error) {
	pids, err := f.tree()
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, pid := range pids {
		var used unix.Timespec
		if err := unix.ClockGettime(processClock(pid), &used); err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		total += time.Duration(used.Nano())
	}
	return total, nil
}

// processClock is the clock of a process's time on processors, as
// clock_getcpuclockid(3) makes it.
func processClock(pid int) int32 {
	const sumOfThreads = 2
	return int32(^pid<<3 | sumOfThreads)
}

// ownCPU is the processor time that this process, the load and the backend, has
// used so far.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// memory is the proportional set size of the processes in bytes: pages that
// several share are counted once in all.
func (f family) memory() (int64, error) {
	pids, err := f.tree()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, pid := range pids {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		pss, err := parsePSS(string(content))
		if err != nil {
			return 0, err
		}
		total += pss
	}
	return total, nil
}

// stat is a part of /proc/PID/stat.
type stat struct{ pid, parent int }

// parseStat reads /proc/PID/stat. The name in brackets may hold anything, so
// the fields are counted from the last bracket.
func parseStat(content string) (stat, error) {
	end := strings.LastIndexByte(content, ')')
	pid, _, _ := strings.Cut(content, " ")
	fields := strings.Fields(content[end+1:])
	if end < 0 || len(fields) < 2 {
		return stat{}, fmt.Errorf("not a line of /proc/PID/stat: %q", content)
	}
	var numbers [2]int
	for i, text := range []string{pid, fields[1]} {
		n, err := strconv.Atoi(text)
		if err != nil {
			return stat{}, fmt.Errorf("not a line of /proc/PID/stat: %w", err)
		}
		numbers[i] = n
	}
	return stat{pid: numbers[0], parent: numbers[1]}, nil
}

// parsePSS reads the proportional set size of /proc/PID/smaps_rollup, in bytes.
func parsePSS(content string) (int64, error) {
	for line := range strings.Lines(content) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kilobytes * 1024, err
		}
	}
	return 0, errors.New("smaps_rollup has no Pss line")
}
