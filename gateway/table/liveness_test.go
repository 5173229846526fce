package table_test

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/table"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestSetSaysWhoIsLive(t *testing.T) {
	set := table.NewSet(table.Ejection{Failures: 1, Base: time.Second})
	replace := func(ports ...uint32) {
		var list []*isthmusv1.Endpoint
		for _, port := range ports {
			list = append(list, endpoint("10.0.0.1", port, 1))
		}
		set.Replace(list, nil)
	}
	replace(1, 2, 3, 4)
	for _, e := range set.Endpoints()[:3] {
		set.Failed(e, now)
	}
	live, ejected, names := set.Liveness(now, 2)
	if live != 1 || ejected != 3 || !slices.Equal(names, []string{"10.0.0.1:1", "10.0.0.1:2"}) {
		t.Errorf("%d live, %d ejected: %q", live, ejected, names)
	}
	if live, ejected, names := set.Liveness(now.Add(time.Second), 2); live != 4 || ejected != 0 || len(names) != 0 {
		t.Errorf("after the ejections %d live, %d ejected: %q", live, ejected, names)
	}
	// What has left was counted all the same.
	replace(4)
	if n := set.Failures(); n != 3 {
		t.Errorf("%d failures", n)
	}
}
