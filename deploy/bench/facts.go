package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machineFacts says in a line what the numbers were measured on.
func machineFacts() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("machine: %d cores (%s), %s memory, Linux %s, %s",
		runtime.NumCPU(), cmp.Or(field("/proc/cpuinfo", "model name"), "unknown"),
		cmp.Or(field("/proc/meminfo", "MemTotal"), "unknown"), strings.TrimSpace(string(kernel)), runtime.Version())
}

// field is the first value of a name in a file of "name: value" lines.
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// machineBusy is the time that all cores have spent on anything, or that was taken from
// them, so far.
func machineBusy() (time.Duration, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(string(content))
}

// parseBusy reads the first line of /proc/stat: the times of user, nice, system, idle,
// iowait, irq, softirq and steal.
func parseBusy(content string) (time.Duration, error) {
	line, _, _ := strings.Cut(content, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("not the first line of /proc/stat: %q", line)
	}
	var total time.Duration
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("not the first line of /proc/stat: %w", err)
		}
		// The unit is USER_HZ, which is 100 on every Linux that Go runs on.
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total, nil
}
