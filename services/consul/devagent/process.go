package devagent

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// process is a child process that runs or has run.
type process struct {
	command *exec.Cmd
	// ended is closed once it has ended; failure may be read then.
	ended   chan struct{}
	failure error
}

// startProcess runs a program that writes to the end of the log.
func startProcess(binary string, args []string, dir, log string) (*process, error) {
	output, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	command := exec.Command(binary, args...)
	command.Dir = dir
	command.Stdout, command.Stderr = output, output
	// Whoever starts us may have set Consul's command line up for another agent.
	command.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CONSUL_") })
	command.SysProcAttr = dieWithParent()

	p := &process{command: command, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the thread that started a child for its parent, so the
		// thread must last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		p.failure = command.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process and waits for its end.
func (p *process) kill() {
	_ = p.command.Process.Kill() // It fails if the process has ended.
	<-p.ended
}

// over says how the process ended, or nil while it runs.
func (p *process) over() error {
	select {
	case <-p.ended:
		if p.failure != nil {
			return fmt.Errorf("it ended: %w", p.failure)
		}
		return fmt.Errorf("it ended: exit status 0")
	default:
		return nil
	}
}
