package resource_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/isthmus-mesh/isthmus/deploy/envoytest"
)

// TestEnvoyTakesTheGolden: a real Envoy finds nothing wrong with any golden file.
func TestEnvoyTakesTheGolden(t *testing.T) {
	envoy := envoytest.Need(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	sidecars, err := filepath.Glob("testdata/sidecar/*.txtar")
	if err != nil || len(sidecars) == 0 {
		t.Fatalf("no golden files of sidecars: %v", err)
	}
	files = append(files, sidecars...)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config := static(archive)
			if n := len(config["static_resources"].(map[string]any)["listeners"].([]json.RawMessage)); n == 0 {
				t.Fatal("there is nothing to validate")
			}
			text, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "bootstrap.json")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "-c", path, "--disable-hot-restart", "-l", "warning")
			if out, err := command.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s\n%s", err, out, text)
			}
		})
	}
}

// static is the resources of a golden file in a bootstrap, which asks a control plane
// that is not there for the endpoints.
func static(archive *txtar.Archive) map[string]any {
	const http2 = `"type":"STATIC","typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":` +
		`{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}}}`
	listeners, clusters := []json.RawMessage{}, []json.RawMessage{
		json.RawMessage(`{"name":"xds",` + http2), json.RawMessage(`{"name":"isthmus_sds",` + http2),
	}
	for _, f := range archive.Files {
		switch kind, name, _ := strings.Cut(f.Name, "/"); {
		case !strings.HasSuffix(f.Name, ".json"):
		case kind == "listener":
			listeners = append(listeners, json.RawMessage(f.Data))
		case kind == "cluster":
			clusters = append(clusters, json.RawMessage(f.Data))
		case kind == "route" || strings.HasSuffix(kind, "-filter"):
			listeners = append(listeners, listening(name, kind, f.Data))
		}
	}
	return map[string]any{
		"node": map[string]any{"id": "golden", "cluster": "golden"},
		"dynamic_resources": map[string]any{"ads_config": map[string]any{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": []any{map[string]any{"envoy_grpc": map[string]any{"cluster_name": "xds"}}},
		}},
		"static_resources": map[string]any{"listeners": listeners, "clusters": clusters},
		"layered_runtime":  longExpressions,
	}
}

// longExpressions is the runtime of every bootstrap: the expressions of intentions are
// larger than Envoy takes by itself.
var longExpressions = map[string]any{"layers": []any{
	map[string]any{"name": "base", "static_layer": map[string]any{"re2.max_program_size.error_level": 1 << 20}},
}}
