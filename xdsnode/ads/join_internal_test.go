package ads

import (
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// What is stated of a proxy at the very moment when it connects is said.
func TestStatedWhileConnecting(t *testing.T) {
	s := NewServer(Config{})
	registered := func(sequence uint64, config string) {
		s.Apply(&isthmusv1.Transaction{Stream: "ROUTES_dc1", Incarnation: "i", Sequence: sequence, Reset: sequence == 1, Changes: []isthmusv1.Change{{
			Key: isthmusv1.ProxyKey("", "n1", "", "web"), Sequence: sequence, Value: &isthmusv1.ProxyRoutes{
				Node: "n1", Id: "web", Kind: isthmusv1.InstanceKindProxy, Service: &isthmusv1.ServiceRef{Name: "web"}, Address: "10.0.0.1", Port: 21000,
				ConfigJson: []byte(config),
			},
		}}})
		if err := s.Emit(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	registered(1, `{}`)
	st := &session{}
	if _, err := s.join(st, "n1", "web"); err != nil {
		t.Fatal(err)
	}
	registered(2, `{"envoy_local_cluster_json":"{"}`)
	if len(st.stated) != 1 {
		t.Errorf("it has stated %q", st.stated)
	}
}

// A proxy that is nobody's is not for a client that is nobody.
func TestNobodyHasNoProxy(t *testing.T) {
	if _, err := admit([]*xdsnode.Proxy{{Routes: &isthmusv1.ProxyRoutes{Node: "n1", Id: "web"}}}, "", "n1/web"); err == nil {
		t.Error("nobody is admitted")
	}
}
