package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// runConsul runs a command of Consul's until the test ends.
func (w *world) runConsul(name string, args ...string) {
	w.t.Helper()
	w.runForeign(name, agenttest.Need(w.t), args...)
}

// runForeign runs a program that is not ours until the test ends, and shows what it
// logged if the test failed.
func (w *world) runForeign(name, path string, args ...string) {
	w.t.Helper()
	log, err := os.Create(w.path(name + ".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(path, args...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if text, err := os.ReadFile(log.Name()); w.t.Failed() && err == nil {
			w.t.Logf("%s logged:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
}

// runConsulEnvoy runs an Envoy that Consul makes and configures. Consul's command
// becomes Envoy, so that ending the one ends the other.
func (w *world) runConsulEnvoy(name, envoy string, agent *devagent.Agent, admin string, args ...string) {
	w.t.Helper()
	args = append([]string{"connect", "envoy"}, args...)
	w.runConsul(name, append(args, "-admin-bind", admin, "-http-addr", agent.HTTP, "-grpc-addr", agent.GRPC,
		"-envoy-binary", envoy, "-ignore-envoy-compatibility", "--", "--concurrency", "1", "-l", "warning")...)
}

// text is what an address answers.
func text(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := newClient(false, nil).Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return string(body), err
}

// envoyEndpoints are where an Envoy sends what is for a server name.
func envoyEndpoints(ctx context.Context, admin, sni string) ([]string, error) {
	clusters, err := text(ctx, "http://"+admin+"/clusters")
	if err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	lines := bufio.NewScanner(strings.NewReader(clusters))
	for lines.Scan() {
		// CLUSTER::ADDRESS::NAME::VALUE; lines about the cluster itself have no
		// address. Before the name, the cluster of an upstream with settings of its
		// own has a hash of them.
		fields := strings.Split(lines.Text(), "::")
		if len(fields) != 4 || fields[2] != "health_flags" {
			continue
		}
		if _, name, hashed := strings.Cut(fields[0], "~"); name == sni || !hashed && fields[0] == sni {
			found[fields[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), lines.Err()
}
