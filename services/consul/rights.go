package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Rules of access control that a datacenter is read by, as Consul spells them.
const (
	RuleNodeRead       = "node:read"
	RuleServiceRead    = "service:read"
	RuleIntentionsRead = "intentions:read"
	RuleAgentRead      = "agent:read"
	RuleMeshRead       = "mesh:read"
	RuleServiceWrite   = "service:write"
)

// Right is one thing that a token may do, or not.
type Right struct {
	// Rule is one of the constants, and On what it is needed on.
	Rule, On string
	// Missing is what the agent answered that shows that the token lacks it;
	// empty: it has it.
	Missing string
	// Err is why it could not be found out.
	Err error
}

// probed is a name that nothing has: only a rule on all names covers it.
const probed = "isthmus-check-probe"

// Rights finds out which rights of a watcher, and on which of the services the
// right to get a leaf, the token has at the agent: by asking for what each right
// shows, of a name that only a rule on all names covers. With access control off
// there are all.
func (c *Client) Rights(ctx context.Context, services ...string) []Right {
	rights := []Right{
		c.mayReadNodes(ctx),
		c.may(ctx, RuleServiceRead, "all services", "/v1/discovery-chain/"+probed),
		c.may(ctx, RuleIntentionsRead, "all services", "/v1/connect/intentions/match?by=destination&name="+probed),
		c.may(ctx, RuleAgentRead, "the agent", "/v1/agent/self"),
		// Everybody gets a list, which those without the right find empty.
		c.may(ctx, RuleMeshRead, "", "/v1/config/exported-services/default"),
	}
	for _, service := range services {
		rights = append(rights, c.mayWriteService(ctx, service))
	}
	return rights
}

// may asks for a path: a 403 says that the right is missing; a 404, that only what
// was asked for is.
func (c *Client) may(ctx context.Context, rule, on, path string) Right {
	_, err := c.direct(ctx, http.MethodGet, path, nil, nil)
	return right(rule, on, err)
}

func right(rule, on string, err error) Right {
	r := Right{Rule: rule, On: on}
	switch {
	case errors.Is(err, ErrDenied):
		r.Missing = err.Error()
	// Without Connect there are no chains: nothing is said of the token.
	case err != nil && !errors.Is(err, ErrNotFound):
		r.Err = err
	}
	return r
}

// mayReadNodes asks for the nodes, of which there is one at least: a list that is
// empty, or says that it was filtered, lacks the right.
func (c *Client) mayReadNodes(ctx context.Context) Right {
	names, answer, err := c.Nodes(ctx, Query{})
	r := right(RuleNodeRead, "all nodes", err)
	switch {
	case err != nil:
	case answer.Filtered:
		r.Missing = "/v1/catalog/nodes: the answer is filtered (X-Consul-Results-Filtered-By-ACLs)"
	case len(names) == 0:
		r.Missing = "/v1/catalog/nodes: the answer is empty, though a datacenter has a node at least"
	}
	return r
}

// mayWriteService asks whether the token could get a leaf. The leaf itself proves
// nothing: an agent that has one hands it to anybody. An agent that cannot be asked
// whether (before 1.9) is asked for the leaf all the same.
func (c *Client) mayWriteService(ctx context.Context, service string) Right {
	type question struct{ Resource, Access, Segment string }
	type decision struct{ Allow bool }
	const path = "/v1/internal/acl/authorize"
	asked, answer := []question{{Resource: "service", Access: "write", Segment: service}}, []decision{}
	_, err := c.direct(ctx, http.MethodPost, path, asked, &answer)
	if errors.Is(err, ErrNotFound) {
		return c.may(ctx, RuleServiceWrite, service, "/v1/agent/connect/ca/leaf/"+url.PathEscape(service))
	}
	r := right(RuleServiceWrite, service, err)
	switch {
	case err != nil:
	case len(answer) != 1:
		r.Err = fmt.Errorf("%s: %d answers to one question", path, len(answer))
	case !answer[0].Allow:
		r.Missing = path + ": " + RuleServiceWrite + " on " + service + " is not allowed"
	}
	return r
}

// UnknownToken reports whether a refusal says that the datacenter does not know the
// token at all: it was deleted, or is a local one of another datacenter.
func UnknownToken(err error) bool {
	return errors.Is(err, ErrDenied) && strings.Contains(err.Error(), "ACL not found")
}

// Anonymous reports whether requests are sent without a token.
func (c *Client) Anonymous() bool {
	token, err := c.token.get()
	return err == nil && token == ""
}
