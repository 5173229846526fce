package definition_test

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// BenchmarkParse reads a directory of a thousand services with sidecars, one
// file each, in each format: what a reload costs.
func BenchmarkParse(b *testing.B) {
	for extension, text := range map[string]string{
		"hcl":  "service {\n name = \"s%d\"\n port = %d\n connect { sidecar_service { proxy { upstreams = [{ destination_name = \"api\", datacenter = \"dc2\", local_bind_port = 9000 }] } } }\n}\n",
		"json": `{"service": {"name": "s%d", "port": %d, "connect": {"sidecar_service": {"proxy": {"upstreams": [{"destination_name": "api", "datacenter": "dc2", "local_bind_port": 9000}]}}}}}`,
		"yaml": "service:\n  name: s%d\n  port: %d\n  connect:\n    sidecar_service:\n      proxy:\n        upstreams:\n        - destination_name: api\n          datacenter: dc2\n          local_bind_port: 9000\n",
	} {
		b.Run(extension, func(b *testing.B) {
			files := []definition.File{{Name: "agent.hcl", Data: []byte("ports { sidecar_max_port = 30000 }")}}
			for i := range 1000 {
				files = append(files, definition.File{Name: fmt.Sprintf("%04d.%s", i, extension), Data: fmt.Appendf(nil, text, i, 1+i)})
			}
			for b.Loop() {
				if catalog := definition.Parse(files, datacenter); catalog.HasErrors() || len(catalog.Values) != 2002 {
					b.Fatalf("%d values, %s", len(catalog.Values), problems(catalog))
				}
			}
		})
	}
}
