package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// beBackend makes this program a backend: it names the addresses.
const beBackend = "ISTHMUS_SOAK_BACKEND"

// backendMain serves at the addresses until its standard input ends, and exits.
func backendMain(addresses string) {
	for address := range strings.SplitSeq(addresses, ",") {
		if err := newEndpoint(address).live(); err != nil {
			fmt.Fprintln(os.Stderr, "soak backend:", err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// startBackend runs this program as a backend, which ends with the returned
// function, and with this process at the latest.
func startBackend(ctx context.Context, addresses ...string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self)
	command.Env = append(os.Environ(), beBackend+"="+strings.Join(addresses, ","))
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = in.Close()
		_ = command.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		stop()
		return nil, fmt.Errorf("the backend said %q (%w)", line, err)
	}
	return stop, nil
}
