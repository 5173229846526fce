package devagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// lookEvery is how often an agent is asked that cannot call by itself.
	lookEvery = 20 * time.Millisecond
	// answerWithin is how long one answer may take.
	answerWithin = 5 * time.Second
)

// Call sends a request to the agent's API with the management token: path begins
// with /v1/, body and answer are JSON (nil: none). An answer other than 2xx is an
// error that quotes it.
func (a *Agent) Call(ctx context.Context, method, path string, body, answer any) error {
	if err := a.call(ctx, method, path, body, answer); err != nil {
		return fmt.Errorf("consul agent %s: %s %s: %w", a.Node, method, path, err)
	}
	return nil
}

func (a *Agent) call(ctx context.Context, method, path string, body, answer any) error {
	var sent io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.HTTP+path, sent)
	if err != nil {
		return err
	}
	if a.Token != "" {
		request.Header.Set("X-Consul-Token", a.Token)
	}
	// A connection for each request: none is left behind, and a restarted agent
	// meets no old one. Proxy: none.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		if cause, ok := errors.AsType[*url.Error](err); ok {
			return cause.Err // The caller names method and path.
		}
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(text))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// await asks until look is content; the agent's end, or the context's, is the
// end of it.
func (a *Agent) await(ctx context.Context, look func(context.Context) error) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		a.mu.Lock()
		p := a.process
		a.mu.Unlock()
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, answerWithin)
			defer cancel()
			return look(ctx)
		}()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			return fmt.Errorf("consul agent %s: %w%s", a.Node, p.over(), a.tail())
		case <-ctx.Done():
			return fmt.Errorf("consul agent %s is not ready: %w: %w%s", a.Node, ctx.Err(), err, a.tail())
		}
	}
}

// awaitReady waits for what a single agent promises.
func (a *Agent) awaitReady(ctx context.Context) error {
	for _, look := range []func(context.Context) error{a.lookLeader, a.lookNode, a.lookRoots, a.lookTokens} {
		if err := a.await(ctx, look); err != nil {
			return err
		}
	}
	return nil
}

// leader is the RPC address of the leader that the agent knows.
func (a *Agent) leader(ctx context.Context) (string, error) {
	var leader string
	if err := a.Call(ctx, http.MethodGet, "/v1/status/leader", nil, &leader); err != nil {
		return "", err
	}
	if leader == "" {
		return "", errors.New("no leader")
	}
	return leader, nil
}

func (a *Agent) lookLeader(ctx context.Context) error {
	_, err := a.leader(ctx)
	return err
}

// lookNode looks whether the agent is in the catalog.
func (a *Agent) lookNode(ctx context.Context) error {
	var node *struct{ Node struct{ ID string } }
	if err := a.Call(ctx, http.MethodGet, "/v1/catalog/node/"+a.Node, nil, &node); err != nil {
		return err
	}
	if node == nil || node.Node.ID != a.nodeID {
		return errors.New("it is not in the catalog")
	}
	return nil
}

// TrustDomain is the trust domain of Connect's roots.
func (a *Agent) TrustDomain(ctx context.Context) (string, error) {
	var roots struct{ TrustDomain string }
	if err := a.Call(ctx, http.MethodGet, "/v1/connect/ca/roots", nil, &roots); err != nil {
		return "", err
	}
	if roots.TrustDomain == "" {
		return "", fmt.Errorf("consul agent %s: roots without a trust domain", a.Node)
	}
	return roots.TrustDomain, nil
}

func (a *Agent) lookRoots(ctx context.Context) error {
	if a.config.NoConnect {
		return nil
	}
	_, err := a.TrustDomain(ctx)
	return err
}

// lookTokens looks whether the tokens are known here.
func (a *Agent) lookTokens(ctx context.Context) error {
	if a.config.ACL == nil {
		return nil
	}
	if err := a.Call(ctx, http.MethodGet, "/v1/acl/token/self", nil, nil); err != nil {
		return err
	}
	if !a.config.secondary() || a.config.Client {
		return nil
	}
	var replication struct {
		Enabled, Running     bool
		ReplicatedTokenIndex uint64
	}
	if err := a.Call(ctx, http.MethodGet, "/v1/acl/replication", nil, &replication); err != nil {
		return err
	}
	if !replication.Enabled || !replication.Running || replication.ReplicatedTokenIndex == 0 {
		return errors.New("the primary's tokens are not here yet")
	}
	return nil
}

// lookFederation looks whether the agent reaches all the datacenters, and signs
// leaves of the trust domain (empty: there is none).
func (a *Agent) lookFederation(ctx context.Context, datacenters []string, trustDomain string) error {
	var listed []string
	if err := a.Call(ctx, http.MethodGet, "/v1/catalog/datacenters", nil, &listed); err != nil {
		return err
	}
	for _, dc := range datacenters {
		if !slices.Contains(listed, dc) {
			return fmt.Errorf("it sees the datacenters %s, not %s", strings.Join(listed, ", "), dc)
		}
		if err := a.Call(ctx, http.MethodGet, "/v1/catalog/services?dc="+dc, nil, nil); err != nil {
			return err
		}
	}
	if trustDomain == "" {
		return nil
	}
	own, err := a.TrustDomain(ctx)
	if err != nil {
		return err
	}
	if own != trustDomain {
		return fmt.Errorf("its trust domain is %s, not %s", own, trustDomain)
	}
	var leaf struct{ ServiceURI string }
	if err := a.Call(ctx, http.MethodGet, "/v1/agent/connect/ca/leaf/isthmus-devagent", nil, &leaf); err != nil {
		return err
	}
	if !strings.HasPrefix(leaf.ServiceURI, "spiffe://"+trustDomain+"/") {
		return fmt.Errorf("it signs %s, which is not of %s", leaf.ServiceURI, trustDomain)
	}
	return nil
}
