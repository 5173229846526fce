package devagent_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// An agent ends with its parent, even when the parent is killed.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	binary := agenttest.Need(t)
	parent := exec.CommandContext(patient(t), os.Args[0], "-test.run=^$")
	parent.Env = append(os.Environ(), asParent+"="+t.TempDir(), "ISTHMUS_CONSUL_BINARY="+binary)
	parent.Stderr = os.Stderr
	stdin, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	address = strings.TrimSpace(address)
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = parent.Wait() // It was killed.
	if t.Failed() {
		return
	}
	// A connection ends with the process that holds its other end.
	defer connection.Close()
	if err := connection.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the agent is still there: %v", err)
	}
}
