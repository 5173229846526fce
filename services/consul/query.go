package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Errors of a request, beside those of the context.
var (
	// ErrDenied says that access control refused a request as a whole (403).
	ErrDenied = errors.New("denied by Consul's access control")
	// ErrNotFound says that there is no such thing, or none that this token may see (404).
	ErrNotFound = errors.New("not known to Consul")
	// ErrTooMany says that the agent has reached its limit of connections or requests (429).
	ErrTooMany = errors.New("the Consul agent takes no more requests from this address")
	// ErrConnectDisabled says that the servers have Connect switched off.
	ErrConnectDisabled = errors.New("service mesh is disabled in the datacenter (connect.enabled of the servers)")
	// ErrUnavailable says that the agent cannot be reached, or has no answer (5xx).
	ErrUnavailable = errors.New("no answer from Consul")
)

// Consistency says which server may answer a query.
type Consistency int

// How consistent an answer is, and what it costs.
const (
	// Default is the leader's word, as Consul's own clients have it.
	Default Consistency = iota
	// Stale is any server's word, however old.
	Stale
	// Consistent is the leader's word after it has made sure that it leads:
	// nothing that was visible before the query is missing.
	Consistent
)

// Query says how to ask.
type Query struct {
	// Index to wait beyond; 0: answer at once.
	Index uint64
	// Wait is how long to wait for a change. 0: the agent's default, 5 minutes.
	Wait        time.Duration
	Consistency Consistency
	// Datacenter to ask through the agent; empty: the agent's own.
	Datacenter string
}

// Answer is what an agent said beside the content.
type Answer struct {
	// Index of the content; of its query alone, and comparable only there.
	Index uint64
	// LastContact is how long ago the answering server heard from the leader.
	LastContact time.Duration
	KnownLeader bool
	// DefaultPolicy is the agent's default policy of access control: allow or
	// deny; empty if it did not say.
	DefaultPolicy string
	// Filtered: the answer says itself that rows are missing from it.
	Filtered bool
	// Anonymous: the request had no token. Consul does not say of such an answer
	// whether it was filtered (agent/consul/acl.go masks it).
	Anonymous bool
}

// Partial is why rows may be missing from an answer, given whether access control
// is on; empty: none are.
func (a Answer) Partial(accessControl bool) string {
	switch {
	case a.Filtered:
		return "the token may not see all of it (X-Consul-Results-Filtered-By-ACLs)"
	case a.Anonymous && (accessControl || a.DefaultPolicy == "deny"):
		return "access control is on and there is no token"
	}
	return ""
}

// waitGrace is what an answer may take beyond its wait; the agent itself adds up
// to a sixteenth of it.
const waitGrace = 10 * time.Second

// defaultWait is what an agent waits if nothing is asked for.
const defaultWait = 5 * time.Minute

// get asks for one path, in which names stand as they are: it is escaped here.
func (c *Client) get(ctx context.Context, path string, q Query, out any) (Answer, error) {
	options, cancel, err := c.options(ctx, q)
	if err != nil {
		return Answer{}, err
	}
	defer cancel()
	meta, err := c.api.Raw().Query(path, out, options)
	if err != nil {
		return Answer{}, failed(ctx, path, err)
	}
	return answered(meta, options), nil
}

// options are a query as the API's client takes it.
func (c *Client) options(ctx context.Context, q Query) (*api.QueryOptions, context.CancelFunc, error) {
	token, err := c.token.get()
	if err != nil {
		return nil, nil, err
	}
	o := &api.QueryOptions{
		WaitIndex: q.Index, WaitTime: q.Wait, Datacenter: q.Datacenter, Token: token,
		AllowStale: q.Consistency == Stale, RequireConsistent: q.Consistency == Consistent,
	}
	limit := 3 * waitGrace
	if q.Index > 0 {
		wait := q.Wait
		if wait == 0 {
			wait = defaultWait
		}
		limit = wait + wait/16 + waitGrace
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	return o.WithContext(ctx), cancel, nil
}

func answered(meta *api.QueryMeta, o *api.QueryOptions) Answer {
	return Answer{
		Index: meta.LastIndex, LastContact: meta.LastContact, KnownLeader: meta.KnownLeader,
		DefaultPolicy: meta.DefaultACLPolicy, Filtered: meta.ResultsFilteredByACLs, Anonymous: o.Token == "",
	}
}

// failed sorts an error by what can be done about it.
func failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if status := (api.StatusError{}); errors.As(err, &status) {
		kind := kindOf(status)
		if kind == nil {
			return fmt.Errorf("%s: %w", what, advise(fmt.Errorf("the agent refuses the request: %d %s", status.Code, body(status.Body))))
		}
		return fmt.Errorf("%s: %w: %d %s", what, kind, status.Code, body(status.Body))
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err // The path is named already, and its index would make each attempt's words others.
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, advise(err))
}

// kindOf sorts a refusal; nil: the request was wrong.
func kindOf(status api.StatusError) error {
	switch status.Code {
	case http.StatusForbidden, http.StatusUnauthorized:
		return ErrDenied
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusTooManyRequests:
		return ErrTooMany
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		return nil
	}
	switch {
	// Some refusals, and an unknown token, come through a server as 500.
	case strings.Contains(status.Body, "ACL not found"), strings.Contains(status.Body, "Permission denied"):
		return ErrDenied
	case strings.Contains(status.Body, "Connect must be enabled"):
		return ErrConnectDisabled
	}
	return ErrUnavailable
}

// body shortens what an agent said of an error. It may quote an accessor ID,
// never a token's secret.
func body(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}
