package identity

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/deploy/onethread"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestMain(m *testing.M) {
	onethread.UnderRace()
	goleak.VerifyTestMain(m)
}

const testTrustDomain = "11111111-2222-3333-4444-555555555555.consul"

var (
	web = Name{Service: &isthmusv1.ServiceRef{Name: "web"}, Datacenter: "dc1"}
	api = Name{Service: &isthmusv1.ServiceRef{Name: "api"}, Datacenter: "dc2"}
)

func newTestCA(t *testing.T, config DevCAConfig) *DevCA {
	t.Helper()
	if config.TrustDomain == "" {
		config.TrustDomain = testTrustDomain
	}
	ca, err := NewDevCA(config)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *DevCA, name Name) *Identity {
	t.Helper()
	identity, err := ca.Issue(name)
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// lived is a Live that holds the identity.
func lived(clock Clock, identity *Identity) *Live {
	l := NewLive(clock)
	l.Take(identity, nil)
	return l
}

// pass lets time go by: fake time, in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

// fixed is a clock that stands still.
type fixed time.Time

func (f fixed) Now() time.Time                       { return time.Time(f) }
func (f fixed) After(time.Duration) <-chan time.Time { return nil }
