package devagent_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
)

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		parent()
	}
	goleak.VerifyTestMain(m)
}

// asParent makes a process of this test a parent that waits to be killed.
const asParent = "ISTHMUS_TEST_DEVAGENT_PARENT"

// parent runs an agent, writes where it is, and waits.
func parent() {
	a, err := devagent.Start(context.Background(), devagent.Config{Dir: os.Getenv(asParent)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.TrimPrefix(a.HTTP, "http://"))
	_, _ = io.Copy(io.Discard, os.Stdin) // Until whoever started this ends, at the latest.
	os.Exit(0)
}

// patient bounds every wait for something that must come.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// put and get call the agent's API, and fail the test with it.
func put(t *testing.T, a *devagent.Agent, path string, body, answer any) {
	t.Helper()
	if err := a.Call(patient(t), http.MethodPut, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, a *devagent.Agent, path string, answer any) {
	t.Helper()
	if err := a.Call(patient(t), http.MethodGet, path, nil, answer); err != nil {
		t.Fatal(err)
	}
}

// services are the names in the agent's catalog.
func services(t *testing.T, a *devagent.Agent) map[string][]string {
	t.Helper()
	var answer map[string][]string
	get(t, a, "/v1/catalog/services?consistent", &answer)
	return answer
}

// web is a service in the catalog that no agent has.
var web = map[string]any{
	"Node": "elsewhere", "Address": "192.0.2.1", "Service": map[string]any{"Service": "web", "Port": 80},
}
