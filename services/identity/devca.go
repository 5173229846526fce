package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// DefaultLeafTTL is how long leaves of the dev CA live where nothing else is
// said.
const DefaultLeafTTL = time.Hour

// pollEvery is how often a source looks whether its files have changed.
const pollEvery = time.Second

// DevCA is a certificate authority for development: whoever can ask it gets a
// leaf for any service. It lives in memory ([NewDevCA]) or in a directory that
// processes of one machine share ([OpenDevCA]). All methods may be called from
// several goroutines.
type DevCA struct {
	clock Clock
	// file is where it is kept; nil in memory.
	file *caFile

	mu      sync.Mutex
	state   *caState
	changed chan struct{}
}

// caState is all that a dev CA is. It is immutable.
type caState struct {
	trustDomain string
	leafTTL     time.Duration
	// authorities from the oldest to the active one.
	authorities []*authority
}

// DevCAConfig says what a dev CA is made of.
type DevCAConfig struct {
	// TrustDomain is lower case, like 11111111-2222-3333-4444-555555555555.consul.
	// Empty: that of the directory, or a random one of that form.
	TrustDomain string
	// LeafTTL is the life of a leaf. 0: that of the directory, or an hour.
	LeafTTL time.Duration
	// Clock is nil for the machine's own time.
	Clock Clock
}

// NewDevCA makes a dev CA in memory. Possible error: [ErrTrustDomain].
func NewDevCA(config DevCAConfig) (*DevCA, error) {
	ca := newDevCA(config, nil)
	state, err := newCAState(config, ca.clock.Now())
	if err != nil {
		return nil, err
	}
	ca.state = state
	return ca, nil
}

func newDevCA(config DevCAConfig, file *caFile) *DevCA {
	return &DevCA{clock: clockOr(config.Clock), file: file, changed: make(chan struct{})}
}

func newCAState(config DevCAConfig, now time.Time) (*caState, error) {
	trustDomain := cmp.Or(config.TrustDomain, newTrustDomain())
	if err := CheckTrustDomain(trustDomain); err != nil {
		return nil, err
	}
	first, err := newAuthority(trustDomain, now, nil)
	if err != nil {
		return nil, err
	}
	return &caState{
		trustDomain: trustDomain,
		leafTTL:     cmp.Or(config.LeafTTL, DefaultLeafTTL),
		authorities: []*authority{first},
	}, nil
}

// newTrustDomain is a random UUID under .consul, as a new Consul cluster has.
func newTrustDomain() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // Never fails, says crypto/rand.
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x.consul", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// CheckTrustDomain checks that the text can be a trust domain. Possible error:
// [ErrTrustDomain].
func CheckTrustDomain(trustDomain string) error {
	legal := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.'
	}
	bad := strings.ContainsFunc(trustDomain, func(r rune) bool { return !legal(r) })
	for label := range strings.SplitSeq(trustDomain, ".") {
		bad = bad || label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-'
	}
	if bad || len(trustDomain) > 200 {
		return fmt.Errorf("%w, which %q is not", ErrTrustDomain, trustDomain)
	}
	return nil
}

// TrustDomain is the CA's trust domain. It never changes.
func (ca *DevCA) TrustDomain() string {
	state, _ := ca.now()
	return state.trustDomain
}

// LeafTTL is the life of the CA's leaves. It never changes.
func (ca *DevCA) LeafTTL() time.Duration {
	state, _ := ca.now()
	return state.leafTTL
}

func (ca *DevCA) now() (*caState, <-chan struct{}) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.state, ca.changed
}

func (ca *DevCA) set(state *caState) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.state = state
	close(ca.changed)
	ca.changed = make(chan struct{})
}

// Issue makes a new leaf for the service.
func (ca *DevCA) Issue(name Name) (*Identity, error) {
	state, _ := ca.now()
	return state.issue(name, ca.clock.Now())
}

func (s *caState) issue(name Name, now time.Time) (*Identity, error) {
	id, err := url.Parse(name.In(s.trustDomain))
	if err != nil {
		return nil, fmt.Errorf("name of %s: %w", name, err)
	}
	if _, ok := isthmusv1.ParseSPIFFEID(id); !ok {
		return nil, fmt.Errorf("%s cannot stand in a certificate: a service and a datacenter are needed", id)
	}
	certificate, err := s.active().leaf(id, now, s.leafTTL)
	if err != nil {
		return nil, err
	}
	certificate.Certificate = append(certificate.Certificate, s.crosses(now)...)
	return newIdentity(certificate, s.trusted(now)), nil
}

// crosses lead from the active root to each one before it that still counts.
func (s *caState) crosses(now time.Time) [][]byte {
	var out [][]byte
	for _, a := range slices.Backward(s.live(now)[1:]) {
		out = append(out, a.cross.Raw)
	}
	return out
}

func (s *caState) active() *authority { return s.authorities[len(s.authorities)-1] }

// trusted are the roots that count at the time: the active one, and those
// replaced while leaves that they signed may still live.
func (s *caState) trusted(now time.Time) []*x509.Certificate {
	var out []*x509.Certificate
	for _, a := range s.live(now) {
		out = append(out, a.root)
	}
	return out
}

func (s *caState) live(now time.Time) []*authority {
	return slices.DeleteFunc(slices.Clone(s.authorities), func(a *authority) bool {
		return !a.until.IsZero() && !now.Before(a.until)
	})
}

// nextEnd is when the next root stops being trusted; zero if none does.
func (s *caState) nextEnd(now time.Time) time.Time {
	for _, a := range s.live(now) {
		if !a.until.IsZero() {
			return a.until // They end in the order in which they were replaced.
		}
	}
	return time.Time{}
}

// CARoots is the roots that are trusted now, for the catalog.
func (ca *DevCA) CARoots() *isthmusv1.CARoots {
	state, _ := ca.now()
	out := &isthmusv1.CARoots{TrustDomain: state.trustDomain, ActiveRootId: state.active().model().GetId()}
	for _, a := range state.live(ca.clock.Now()) {
		out.Roots = append(out.Roots, a.model())
	}
	slices.SortFunc(out.Roots, func(a, b *isthmusv1.CARoot) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return out
}

// Rotate makes a new root and signs with it from now on. The root before stays
// trusted for the life of a leaf, and the new one comes with a certificate that
// the one before has signed: so a peer that knows only one of the two accepts
// leaves of both, and nobody has to hear of the change first.
func (ca *DevCA) Rotate() error {
	if ca.file == nil {
		state, _ := ca.now()
		next, err := state.rotated(ca.clock.Now())
		if err != nil {
			return err
		}
		ca.set(next)
		return nil
	}
	next, err := ca.file.rotate(ca.clock.Now())
	if err != nil {
		return err
	}
	ca.set(next)
	return nil
}

func (s *caState) rotated(now time.Time) (*caState, error) {
	kept := s.live(now)
	before := *kept[len(kept)-1]
	before.until = now.Add(s.leafTTL + skew)
	next, err := newAuthority(s.trustDomain, now, &before)
	if err != nil {
		return nil, err
	}
	kept[len(kept)-1] = &before
	return &caState{trustDomain: s.trustDomain, leafTTL: s.leafTTL, authorities: append(kept, next)}, nil
}

// Follow is [Source.Follow]: a leaf for the service, renewed at two thirds of
// its life, and at once after [DevCA.Rotate] by any process that shares the
// directory (within a second, where it is another process).
func (ca *DevCA) Follow(ctx context.Context, name Name, handle func(*Identity, error)) error {
	f := devFollower{name: name}
	for {
		state, changed := ca.now()
		if identity, err := f.next(state, ca.clock.Now()); err != nil {
			handle(nil, err)
		} else if identity != nil {
			handle(identity, nil)
		}
		if err := ca.wait(ctx, changed, f.wakeAt(ca.clock.Now()), f.tell(handle)); err != nil {
			return err
		}
	}
}

// FollowRoots hands over the present roots, then each next ones, until ctx ends,
// and returns its cause.
func (ca *DevCA) FollowRoots(ctx context.Context, handle func(*isthmusv1.CARoots)) error {
	for {
		state, changed := ca.now()
		handle(ca.CARoots())
		if err := ca.wait(ctx, changed, state.nextEnd(ca.clock.Now()), func(error) {}); err != nil {
			return err
		}
	}
}

// wait returns when the CA has changed or the time has come (never, if zero),
// or with ctx's cause. It looks after the CA's file meanwhile.
func (ca *DevCA) wait(ctx context.Context, changed <-chan struct{}, at time.Time, trouble func(error)) error {
	var due, poll <-chan time.Time
	if !at.IsZero() {
		due = ca.clock.After(at.Sub(ca.clock.Now()))
	}
	for {
		if ca.file != nil {
			poll = ca.clock.After(pollEvery)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
			return nil
		case <-due:
			return nil
		case <-poll:
			trouble(ca.reload())
		}
	}
}

// reload takes in what another process has made of the directory.
func (ca *DevCA) reload() error {
	state, err := ca.file.reload()
	if err != nil || state == nil {
		return err
	}
	ca.set(state)
	return nil
}
