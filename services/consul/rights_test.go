package consul_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/services/consul"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent"
	"github.com/isthmus-mesh/isthmus/services/consul/devagent/agenttest"
)

// asks returns a client of an address.
func asks(t *testing.T, address, token string) *consul.Client {
	t.Helper()
	c, err := consul.Open(consul.Options{Address: address, Token: token, Environment: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fakeAgent answers each path with a status and a body.
func fakeAgent(t *testing.T, answers map[string]string, ahead time.Duration) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		answer, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var status int
		if _, err := fmt.Sscanf(answer, "%d", &status); err != nil {
			t.Error(err)
		}
		_, body, _ := strings.Cut(answer, " ")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// A clock that differs shows by how much for certain, never more than it does.
func TestClock(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Second / 3, -time.Second / 3, 5 * time.Second, -40 * time.Second} {
		s := fakeAgent(t, map[string]string{"GET /v1/status/leader?stale=": `200 "x"`}, ahead)
		clock, err := asks(t, s.URL, "").Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := (clock.Skew - ahead).Abs(); d > clock.Within || clock.AtLeast() > ahead.Abs() || clock.AtLeast() < ahead.Abs()-2*time.Second {
			t.Errorf("ahead %v: %+v, at least %v", ahead, clock, clock.AtLeast())
		}
	}
}

// An agent that does not know the question is asked for the leaf.
func TestServiceWriteOfOldAgents(t *testing.T) {
	for leaf, missing := range map[string]bool{`200 {}`: false, `403 Permission denied`: true} {
		s := fakeAgent(t, map[string]string{"GET /v1/agent/connect/ca/leaf/web": leaf}, 0)
		rights := asks(t, s.URL, "").Rights(t.Context(), "web")
		last := rights[len(rights)-1]
		if last.Rule != consul.RuleServiceWrite || last.On != "web" || last.Err != nil || (last.Missing != "") != missing {
			t.Errorf("%s: %+v", leaf, last)
		}
	}
}

// What is neither granted nor refused is not taken for either.
func TestRightsUnknown(t *testing.T) {
	s := fakeAgent(t, map[string]string{
		"GET /v1/discovery-chain/isthmus-check-probe": `500 No cluster leader`, "GET /v1/catalog/nodes": `500 No cluster leader`,
	}, 0)
	for _, r := range asks(t, s.URL, "").Rights(t.Context())[:2] {
		if r.Missing != "" || !errors.Is(r.Err, consul.ErrUnavailable) {
			t.Errorf("%+v", r)
		}
	}
}

// Members, the version and a prepared query as a real agent gives them.
func TestRealAgent(t *testing.T) {
	t.Parallel()
	dcs := agenttest.StartFederation(t, devagent.Config{ACL: devagent.NewACL()}, "dc1", "dc2")
	c := asks(t, dcs[0].HTTP, dcs[0].Token)
	lan, _, err := c.Members(t.Context(), false)
	if err != nil || len(lan) != 1 || lan[0].Name != dcs[0].Node || !lan[0].Server || !lan[0].Alive || lan[0].Datacenter != "dc1" || lan[0].ID == "" {
		t.Errorf("%+v, %v", lan, err)
	}
	wan, _, err := c.Members(t.Context(), true)
	if err != nil || len(wan) != 2 || wan[0].ID != lan[0].ID || wan[1].Name != dcs[1].Node+".dc2" || wan[1].Datacenter != "dc2" {
		t.Errorf("%+v, %v", wan, err)
	}
	version, err := c.Version(t.Context())
	if err != nil || version == "" || version != wan[1].Build {
		t.Errorf("version %q, %v", version, err)
	}

	if _, err := c.PreparedQuery(t.Context(), "near"); !errors.Is(err, consul.ErrNotFound) {
		t.Errorf("a query that is not there: %v", err)
	}
	register := map[string]any{"Node": "n", "Address": "192.0.2.1", "Service": map[string]any{
		"Service": "api-proxy", "Kind": "connect-proxy", "Port": 99, "Proxy": map[string]any{"DestinationServiceName": "api"},
	}}
	if err := dcs[0].Call(t.Context(), http.MethodPut, "/v1/catalog/register", register, nil); err != nil {
		t.Fatal(err)
	}
	if err := dcs[0].Call(t.Context(), http.MethodPost, "/v1/query", map[string]any{"Name": "near", "Service": map[string]any{"Service": "api"}}, nil); err != nil {
		t.Fatal(err)
	}
	query, err := c.PreparedQuery(t.Context(), "near")
	if err != nil || len(query.GetResults()) != 1 || query.GetResults()[0].GetInstanceId() != "api-proxy" {
		t.Errorf("%v, %v", query, err)
	}

	_, _, err = asks(t, dcs[0].HTTP, "99999999-1111-2222-3333-444444444444").Members(t.Context(), false)
	if !consul.UnknownToken(err) || strings.Contains(err.Error(), "99999999") {
		t.Errorf("an unknown token: %v", err)
	}
}
