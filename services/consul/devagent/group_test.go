package devagent_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// Two datacenters see each other's services, and have one trust domain; with
// ACLs one token is good in both.
func TestFederation(t *testing.T) {
	t.Parallel()
	for name, template := range map[string]devagent.Config{
		"in memory": {},
		"durable":   {Durable: true},
		"with ACLs": {ACL: devagent.NewACL()},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			dcs := agenttest.StartFederation(t, template, "dc1", "dc2")
			t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
			put(t, dcs[1], "/v1/catalog/register", web, nil)
			var seen map[string][]string
			get(t, dcs[0], "/v1/catalog/services?dc=dc2", &seen)
			if _, ok := seen["web"]; !ok {
				t.Errorf("dc1 sees %v in dc2", seen)
			}
			first, err := dcs[0].TrustDomain(patient(t))
			if err != nil {
				t.Fatal(err)
			}
			if second, err := dcs[1].TrustDomain(patient(t)); err != nil || second != first {
				t.Errorf("dc2 has the trust domain %s, dc1 %s: %v", second, first, err)
			}
		})
	}
}

// A secondary that was killed comes back into the federation.
func TestFederationSurvives(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{Durable: true}, "dc1", "dc2", "dc3")
	dcs[2].Kill()
	if err := dcs[2].Restart(patient(t)); err != nil {
		t.Fatal(err)
	}
	if err := dcs.AwaitFederation(patient(t)); err != nil {
		t.Error(err)
	}
}

// Three servers elect a new leader when theirs is killed, and take it back as
// one of them.
func TestCluster(t *testing.T) {
	t.Parallel()
	began := time.Now()
	servers := agenttest.StartCluster(t, devagent.Config{}, 3)
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	leader, err := servers.Leader(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	put(t, leader, "/v1/catalog/register", web, nil)
	leader.Kill()
	began = time.Now()
	next, err := servers.Leader(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a new leader after %v", time.Since(began).Round(time.Millisecond))
	if next == leader {
		t.Error("the leader was killed, and still leads")
	}
	if _, ok := services(t, next)["web"]; !ok {
		t.Error("the new leader does not know the service")
	}
	if err := leader.Restart(patient(t)); err != nil {
		t.Fatal(err)
	}
	if _, ok := services(t, leader)["web"]; !ok {
		t.Error("the old leader does not know the service")
	}
}
