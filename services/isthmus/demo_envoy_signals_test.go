package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
)

// A demo takes its Envoys along, however it ends; if it is told to, nothing else of it is
// left either.
func TestDemoTakesItsEnvoysAlong(t *testing.T) {
	binary := envoytest.Need(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			temporary := t.TempDir()
			demo := exec.CommandContext(t.Context(), "isthmus", "demo", "--dataplane", "envoy", "--envoy-binary", binary, "--catalog", movedCatalog(t))
			demo.Env = append(os.Environ(), "TMPDIR="+temporary, "HOME="+temporary)
			demo.Stderr = t.Output()
			out, err := demo.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := demo.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for lines.Scan() && !strings.HasPrefix(lines.Text(), "✓ up") {
				continue
			}
			envoys := envoysIn(t, temporary)
			if err := demo.Process.Signal(signal); err != nil {
				t.Error(err)
			}
			if len(envoys) != 9 {
				t.Errorf("%d Envoys run", len(envoys))
			}
			for lines.Scan() {
				continue // Else it would wait for its reader.
			}
			if err := demo.Wait(); err == nil {
				t.Error("it ended well")
			}
			until(t, fmt.Sprintf("Envoys still run of %v", envoys), func() bool { return len(envoysIn(t, temporary)) == 0 })
			if left, _ := filepath.Glob(filepath.Join(temporary, "isthmus-*")); signal != syscall.SIGKILL && len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// envoysIn are the processes whose command lines name a file in a directory.
func envoysIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file) // It may have ended, or is not ours to see.
		if strings.Contains(string(line), "--admin-address-path\x00"+dir) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
