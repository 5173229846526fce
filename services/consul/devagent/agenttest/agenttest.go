// Package agenttest gives tests real Consul agents: ready when they are returned,
// ended and cleaned up with the test, and their logs shown if it fails.
//
// Where Consul is not installed the test is skipped with a loud line; under CI it
// fails.
package agenttest

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

// patience bounds a start, on a machine that is busy with other tests.
const patience = 2 * time.Minute

// Need returns the path of the consul binary, or ends the test: by skipping it,
// or under CI as a failure.
func Need(t testing.TB) string {
	t.Helper()
	binary, err := devagent.Find()
	if err == nil {
		return binary
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skipf("!!! NOT TESTED WITH A REAL CONSUL: %v !!!", err)
	return ""
}

// Start is [devagent.Start] for the time of the test.
func Start(t testing.TB, config devagent.Config) *devagent.Agent {
	t.Helper()
	return start(t, config, func(ctx context.Context, config devagent.Config) (devagent.Group, error) {
		agent, err := devagent.Start(ctx, config)
		return devagent.Group{agent}, err
	})[0]
}

// StartCluster is [devagent.StartCluster] for the time of the test.
func StartCluster(t testing.TB, template devagent.Config, servers int) devagent.Group {
	t.Helper()
	return start(t, template, func(ctx context.Context, config devagent.Config) (devagent.Group, error) {
		return devagent.StartCluster(ctx, config, servers)
	})
}

// StartFederation is [devagent.StartFederation] for the time of the test.
func StartFederation(t testing.TB, template devagent.Config, datacenters ...string) devagent.Group {
	t.Helper()
	return start(t, template, func(ctx context.Context, config devagent.Config) (devagent.Group, error) {
		return devagent.StartFederation(ctx, config, datacenters...)
	})
}

// start runs agents that end with the test.
func start(
	t testing.TB, config devagent.Config, run func(context.Context, devagent.Config) (devagent.Group, error),
) devagent.Group {
	t.Helper()
	config.Binary = Need(t)
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	agents, err := run(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, agent := range agents {
				t.Logf("%s logged:\n%s", agent.Node, agent.Tail())
			}
		}
		if err := agents.Close(); err != nil {
			t.Error(err)
		}
	})
	return agents
}
