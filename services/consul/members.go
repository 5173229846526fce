package consul

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Member is one agent of a gossip pool: of the datacenter's own (LAN), or of the
// one that the servers of all datacenters form (WAN).
type Member struct {
	// Name is the node's; in the WAN pool with the datacenter behind a dot.
	Name, Address, Datacenter string
	// ID is the node's, which is one of its kind in the world.
	ID string
	// Build is the version, like 1.22.5; empty if it does not say.
	Build string
	// Server: it is not a client.
	Server bool
	// Alive: not failed, nor gone, as far as the agent that was asked has heard.
	Alive bool
}

// serfAlive is a member's status (serf.StatusAlive).
const serfAlive = 1

// Members lists the agent's gossip pool, sorted by name; wan: that of the servers
// of all datacenters, which only a server knows (node:read; what the token may not
// see is left out).
func (c *Client) Members(ctx context.Context, wan bool) ([]Member, Answer, error) {
	path := "/v1/agent/members"
	if wan {
		path += "?wan=1"
	}
	var list []struct {
		Name, Addr string
		Tags       map[string]string
		Status     int
	}
	answer, err := c.direct(ctx, http.MethodGet, path, nil, &list)
	if err != nil {
		return nil, answer, err
	}
	members := make([]Member, 0, len(list))
	for _, m := range list {
		// A build is VERSION:REVISION.
		build, _, _ := strings.Cut(m.Tags["build"], ":")
		members = append(members, Member{
			Name: m.Name, Address: m.Addr, Datacenter: m.Tags["dc"], ID: m.Tags["id"], Build: build,
			Server: m.Tags["role"] == "consul", Alive: m.Status == serfAlive,
		})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return members, answer, nil
}

// Version is the agent's, which it tells everybody. [ErrNotFound]: it is older
// than this question.
func (c *Client) Version(ctx context.Context) (string, error) {
	var answer struct{ HumanVersion string }
	_, err := c.get(ctx, "/v1/agent/version", Query{}, &answer)
	return answer.HumanVersion, err
}

// Clock is how an agent's clock stands to this machine's.
type Clock struct {
	// Skew is how far the agent's is ahead; negative: behind.
	Skew time.Duration
	// Within is how far the truth may be from Skew: an answer names its time in
	// whole seconds, and was a while on its way.
	Within time.Duration
}

// AtLeast is by how much the clocks differ for certain.
func (c Clock) AtLeast() time.Duration { return max(c.Skew.Abs()-c.Within, 0) }

// Clock compares the agent's clock with this machine's, by the date of an answer
// that needs no right.
func (c *Client) Clock(ctx context.Context) (Clock, error) {
	if strings.HasPrefix(c.url, "unix://") {
		return Clock{}, nil // One machine, one clock.
	}
	var (
		date   string
		leader string
	)
	sent := time.Now()
	if _, err := c.get(context.WithValue(ctx, dateKey{}, &date), "/v1/status/leader", Query{Consistency: Stale}, &leader); err != nil {
		return Clock{}, err
	}
	took := time.Since(sent)
	at, err := http.ParseTime(date)
	if err != nil {
		return Clock{}, fmt.Errorf("the agent's clock: its answer has no date that can be read: %q", date)
	}
	const second = time.Second / 2 // The middle of the second that the date names.
	return Clock{Skew: at.Add(second).Sub(sent.Add(took / 2).Round(0)), Within: second + took/2}, nil
}

// dateKey finds in a request's context where the date of its answer is wanted.
type dateKey struct{}

// dated hands the date of an answer to whoever asks for it.
type dated struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, ok := r.Context().Value(dateKey{}).(*string); ok {
		*date = response.Header.Get("Date")
	}
	return response, nil
}
