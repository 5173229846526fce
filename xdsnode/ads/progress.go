package ads

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// point is how far the node was when it told streams of a change.
type point struct {
	// number counts them.
	number uint64
	routes *isthmusv1.Position
	basis  *isthmusv1.Basis
}

// earlier is the one of two that came first; nil comes before all.
func earlier(a, b *point) *point {
	if a == nil || b == nil {
		return nil
	}
	if b.number < a.number {
		return b
	}
	return a
}

// before is the point if it comes before another one, which was refused; else nil: it is
// not known which one the Envoy has all of.
func (p *point) before(refused *point) *point {
	if p == nil || refused == nil || p.number >= refused.number {
		return nil
	}
	return p
}

// standing is what a stream's Envoy has taken in, over all types.
type standing struct {
	// at is the newest point of which it has all; nil: it is not known yet.
	at *point
	// refusing: something that it has refused is still there.
	refusing bool
	content  content
}

// progress is what is known of a stream's Envoy. A session guards it with its mutex.
type progress struct {
	// latest is the newest point whose changes concern it; current: it has all of that,
	// and so of every later point too. Else at is what it has.
	latest  *point
	current bool
	at      *point
	content content
	nack    *isthmusv1.Nack
}

// concern takes a point that concerns the stream; before is the node's point until then.
func (p *progress) concern(latest, before *point) {
	if p.current {
		p.current, p.at = false, before
	}
	p.latest = latest
}

// reach takes a standing, and reports whether there is anything to tell.
func (p *progress) reach(s standing) bool {
	was := *p
	p.content = s.content
	switch {
	case s.at == nil:
		p.current = p.current && !s.refusing
	case s.at == p.latest:
		p.current, p.at = true, nil
	case p.at == nil || s.at.number > p.at.number:
		p.at = s.at
	}
	if p.nack != nil && p.nack.GetOver() == s.refusing {
		p.nack = &isthmusv1.Nack{
			Time: p.nack.GetTime(), Resource: p.nack.GetResource(), Detail: p.nack.GetDetail(), Cause: p.nack.GetCause(), Over: !s.refusing,
		}
	}
	return *p != was
}

// status is what is told of the proxy.
func (p *progress) status(name, kind string) *isthmusv1.ProxyStatus {
	out := &isthmusv1.ProxyStatus{
		Proxy: name, Kind: kind, Connected: true, Version: p.content.String(), Current: p.current, LastNack: p.nack,
	}
	if p.at != nil {
		out.Routes, out.Basis = p.at.routes, p.at.basis
	}
	return out
}

// nack is a refusal of resources that came from a point.
func nack(t xdsnode.Type, names []string, detail string, from *point) *isthmusv1.Nack {
	out := &isthmusv1.Nack{Time: timestamppb.New(time.Now()), Resource: refusedName(t, names, detail), Detail: detail}
	if from != nil {
		out.Cause = from.routes
	}
	return out
}

// namesShown bounds the names of a refusal.
const namesShown = 3

// refusedName is what was refused, for people: of several resources those that the
// Envoy's own words name, if they do.
func refusedName(t xdsnode.Type, names []string, detail string) string {
	if len(names) > 1 {
		named := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !mentions(detail, name) })
		if len(named) > 0 {
			names = named
		}
	}
	more := ""
	if n := len(names) - namesShown; n > 0 {
		names, more = names[:namesShown], fmt.Sprintf(" and %d more", n)
	}
	kind := string(t)[strings.LastIndexByte(string(t), '.')+1:]
	return strings.TrimSpace(kind + " " + strings.Join(names, ", ") + more)
}

// mentions reports whether a text has a name that is not a part of another one.
func mentions(text, name string) bool {
	for from := 0; ; from++ {
		i := strings.Index(text[from:], name)
		if i < 0 || name == "" {
			return false
		}
		from += i
		before, after := strings.TrimSuffix(text[:from], "."), strings.TrimPrefix(text[from+len(name):], ".")
		if !strings.ContainsAny(before[max(len(before)-1, 0):], inNames) && !strings.ContainsAny(after[:min(len(after), 1)], inNames) {
			return true
		}
	}
}

// inNames are characters of names, but for the full stop, which may end a sentence.
const inNames = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
