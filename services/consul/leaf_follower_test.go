package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/identity"
)

const followerTrustDomain = "11111111-2222-3333-4444-555555555555.consul"

var followerName = identity.Name{Service: &isthmusv1.ServiceRef{Name: "web"}, Datacenter: "dc1"}

// story is a follower with what it has handed over, as text.
type story struct {
	*leafFollower
	t    *testing.T
	time time.Time
	ca   *identity.DevCA
	said []string
	last *identity.Identity
}

func newStory(t *testing.T) *story {
	t.Helper()
	s := &story{t: t, time: time.Now()}
	s.ca = s.newCA()
	s.leafFollower = &leafFollower{
		name: followerName, now: func() time.Time { return s.time },
		handle: func(i *identity.Identity, err error) {
			if s.last != nil && i == s.last {
				s.said = append(s.said, "well again")
				return
			}
			if err != nil {
				s.said = append(s.said, err.Error())
				return
			}
			s.last = i
			s.said = append(s.said, fmt.Sprintf("identity with %d roots", strings.Count(string(i.RootsPEM()), "BEGIN")))
		},
	}
	return s
}

func (s *story) newCA() *identity.DevCA {
	s.t.Helper()
	ca, err := identity.NewDevCA(identity.DevCAConfig{TrustDomain: followerTrustDomain, LeafTTL: time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	return ca
}

// issued is a leaf as the agent would answer with.
func (s *story) issued(name identity.Name) leafNews {
	s.t.Helper()
	i, err := s.ca.Issue(name)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := i.KeyPEM()
	if err != nil {
		s.t.Fatal(err)
	}
	return leafNews{leaf: leaf{CertPEM: string(i.ChainPEM()), PrivateKeyPEM: string(key)}}
}

func (s *story) trusted() rootNews { return rootNews{roots: s.ca.CARoots()} }

// tells wants that exactly this was handed over since it was last asked; each is
// the beginning of what was said.
func (s *story) tells(want ...string) {
	s.t.Helper()
	ok := len(s.said) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.Contains(s.said[i], want[i])
	}
	if !ok {
		s.t.Errorf("said %q\nwant %q", s.said, want)
	}
	s.said = nil
}

// Leaf and roots come by queries of their own, in any order, and a rotation shows
// in one of them first.
func TestFollowerJoinsLeafAndRoots(t *testing.T) {
	s := newStory(t)
	s.leafIs(s.issued(followerName))
	s.tells()
	s.rootsAre(s.trusted())
	s.tells("identity with 1 roots")
	s.leafIs(s.issued(followerName))
	s.tells("identity with 1 roots")
	s.rootsAre(s.trusted())
	s.tells() // The same again.
	if err := s.ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	s.rootsAre(s.trusted())
	s.tells("identity with 2 roots")

	// An agent with an empty state: another CA, whose leaf comes before its roots.
	s.ca = s.newCA()
	s.leafIs(s.issued(followerName))
	s.tells()
	if at := s.wakeAt(); !at.Equal(s.time.Add(rootsWithin)) {
		t.Errorf("wakes at %v", at)
	}
	s.rootsAre(s.trusted())
	s.tells("identity with 1 roots")

	// Roots that never come are told.
	s.ca = s.newCA()
	s.leafIs(s.issued(followerName))
	s.time = s.time.Add(rootsWithin)
	s.settle()
	s.tells("no root vouches")
	s.rootsAre(s.trusted())
	s.tells("identity with 1 roots")
}

// An agent that answers at once and refuses to wait, as for a leaf that may not be
// renewed, is asked less and less.
func TestRefusedWaitsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		asked := 0
		follow(ctx, leafWait, func(_ context.Context, q Query) (Answer, error) {
			if asked++; q.Index > 0 {
				return Answer{}, ErrDenied
			}
			return Answer{Index: 7}, nil
		})
		if asked > 30 {
			t.Errorf("it was asked %d times within a minute", asked)
		}
	})
}

// Trouble is told once for as long as it lasts, with its end, and takes nothing back.
func TestFollowerTellsTroubleOnce(t *testing.T) {
	s := newStory(t)
	away := func(words string) error { return fmt.Errorf("leaf: %w: %s", ErrUnavailable, words) }
	s.leafIs(leafNews{err: away("connection refused")})
	s.rootsAre(rootNews{err: away("reset by peer")})
	s.leafIs(leafNews{err: away("no route to host")})
	s.tells("connection refused")
	s.rootsAre(s.trusted())
	s.leafIs(s.issued(followerName))
	s.tells("identity")
	s.leafIs(leafNews{err: away("connection refused")})
	s.tells("connection refused")
	s.leafIs(leafNews{err: fmt.Errorf("leaf: %w", ErrDenied)})
	s.tells("denied")
	// An agent hands to anybody what it has: the same leaf, at once, is no end of it.
	s.leafIs(leafNews{leaf: s.leaf})
	s.tells()
	s.leafIs(leafNews{err: fmt.Errorf("leaf: %w", ErrDenied)})
	s.tells()
	leaf := leafNews{leaf: s.leaf, waited: true}
	s.leafIs(leaf)
	s.tells("well again")
	s.leafIs(leafNews{err: fmt.Errorf("leaf: %w", ErrDenied)})
	s.leafIs(s.issued(followerName))
	s.tells("denied", "identity")
	leaf.leaf = s.leaf

	// A leaf of another service or datacenter is none of ours.
	for _, other := range []identity.Name{
		{Service: &isthmusv1.ServiceRef{Name: "api"}, Datacenter: "dc1"}, {Service: &isthmusv1.ServiceRef{Name: "web"}, Datacenter: "dc2"},
	} {
		s.leafIs(s.issued(other))
		s.leafIs(s.issued(other))
		s.tells(identity.ErrWrongName.Error())
		s.leafIs(leaf)
		s.tells("well again")
	}

	// One that is not renewed is told when it expires, whatever else was told.
	s.leafIs(leafNews{err: away("connection refused")})
	s.tells("connection refused")
	s.time = s.wakeAt().Add(time.Millisecond)
	s.settle()
	s.settle()
	s.tells("has expired")
	if !s.wakeAt().IsZero() {
		t.Error("it wakes for ever")
	}
	if got := fmt.Sprintf("%v %+v %#v", leaf.leaf, leaf.leaf, leaf.leaf); strings.Contains(got, "KEY") {
		t.Errorf("shows the key: %s", got)
	}
	if !errors.Is(s.outlived(), identity.ErrExpired) {
		t.Error("not expired")
	}
}
