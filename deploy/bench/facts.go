package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strings"
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
