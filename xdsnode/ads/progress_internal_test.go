package ads

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

func TestRefusedName(t *testing.T) {
	for _, test := range []struct {
		names        []string
		detail, want string
	}{
		{[]string{"api"}, "malformed", "Cluster api"},
		{[]string{"api", "db"}, "malformed", "Cluster api, db"},
		{[]string{"a", "api", "api.default", "api-v2"}, "Error adding/updating cluster(s) api: malformed", "Cluster api"},
		{[]string{"api", "v2.api", "api.default.dc1.internal.td"}, "cluster(s) api.default.dc1.internal.td: bad.", "Cluster api.default.dc1.internal.td"},
		{[]string{"a", "b"}, "aa ab bb b", "Cluster b"},
		{[]string{"a", "b"}, "it is b.", "Cluster b"},
		{[]string{"a", "b", "c", "d", "e"}, "", "Cluster a, b, c and 2 more"},
		{nil, "all of it", "Cluster"},
	} {
		if got := refusedName(xdsnode.Cluster, test.names, test.detail); got != test.want {
			t.Errorf("%q of %v: %q, want %q", test.detail, test.names, got, test.want)
		}
	}
}
