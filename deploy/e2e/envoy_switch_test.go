package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// TestEnvoySwitch moves a sidecar from `consul connect envoy` to `isthmus envoy` and back
// by the commands of deploy/docs/migrate-envoy.md, while requests are made: none fails.
func TestEnvoySwitch(t *testing.T) {
	envoy := envoytest.Need(t)
	w := newEnvoyWorld(t)
	w.startData()
	agent := w.agents["dc1"]
	// Several may run on this machine; each base ID is one's own.
	baseID := strconv.Itoa(os.Getpid() % 60000)
	var ended []<-chan error
	takeOver := func(ours bool) {
		t.Helper()
		epoch := len(ended)
		admin := fmt.Sprintf("%s10:1900%d", w.dc1, epoch)
		path, args := agenttest.Need(t), []string{
			"connect", "envoy", "-sidecar-for", "web", "-http-addr", agent.HTTP, "-grpc-addr", agent.GRPC, "-admin-bind", admin,
			"-envoy-binary", envoy, "-ignore-envoy-compatibility",
		}
		if ours {
			path, args = binary, []string{"envoy", "--sidecar-for", "web", "--xds", w.listen("dc1"), "--consul", agent.HTTP, "--admin-bind", admin}
		}
		args = append(args, "--", "--base-id", baseID, "--restart-epoch", strconv.Itoa(epoch), "--concurrency", "1",
			"--drain-time-s", "1", "--parent-shutdown-time-s", "3", "--log-level", "warning")
		ended = append(ended, w.epoch(fmt.Sprintf("web-%d", epoch), path, args...))
		await(t, fmt.Sprintf("epoch %d does not serve", epoch), func(ctx context.Context) error {
			select {
			case err := <-ended[epoch]:
				t.Fatalf("epoch %d has ended: %v", epoch, err)
			default:
			}
			return get(ctx, "http://"+admin+"/ready")
		})
	}
	takeOver(false)
	for _, s := range services {
		w.awaitAnswer(s.name, w.upstream(s.port))
	}
	w.compared("dc1", "web-sidecar-proxy")
	l := w.startLoad(t, false)
	l.more(t, settled)
	for _, ours := range []bool{true, false} {
		takeOver(ours)
		await(t, "the Envoy before does not end", func(context.Context) error {
			select {
			case err := <-ended[len(ended)-2]:
				if err != nil {
					t.Errorf("the Envoy before ended with %v", err)
				}
				return nil
			default:
				return errors.New("it runs")
			}
		})
		l.more(t, settled)
	}
	l.verdict(t, "a sidecar that was moved to Isthmus and back")
}

// epoch runs a program until the test ends, or it has handed over; the channel says how
// it ended.
func (w *envoyWorld) epoch(name, path string, args ...string) <-chan error {
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
	ended, gone := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(gone)
		ended <- command.Wait()
	}()
	w.t.Cleanup(func() {
		_ = command.Process.Kill()
		<-gone
		if text, err := os.ReadFile(log.Name()); w.t.Failed() && err == nil {
			w.t.Logf("%s logged:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return ended
}
