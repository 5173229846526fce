package identity

import (
	"crypto/x509"
	"slices"
	"time"
)

// devFollower is what one following of a dev CA has handed over. It is pure but
// for the making of leaves.
type devFollower struct {
	name    Name
	state   *caState
	current *Identity
	renewAt time.Time
	trouble string
}

// retryAfter is how soon a leaf that could not be made is tried again.
const retryAfter = time.Second

// next returns the identity to hand over now, or nil if the last one will do.
func (f *devFollower) next(state *caState, now time.Time) (*Identity, error) {
	resigned := f.state == nil || !state.active().root.Equal(f.state.active().root)
	if f.current == nil || resigned || !now.Before(f.renewAt) {
		identity, err := state.issue(f.name, now)
		if err != nil {
			f.renewAt = now.Add(retryAfter)
			return nil, err
		}
		f.state, f.current = state, identity
		f.renewAt = now.Add(identity.NotAfter().Sub(now) * 2 / 3)
		return identity, nil
	}
	f.state = state
	roots := state.trusted(now)
	if slices.EqualFunc(roots, f.current.roots, (*x509.Certificate).Equal) {
		return nil, nil
	}
	f.current = newIdentity(f.current.certificate, roots)
	return f.current, nil
}

// wakeAt is when there will be something to do: the leaf is due, or a root ends.
func (f *devFollower) wakeAt(now time.Time) time.Time {
	if f.state == nil {
		return f.renewAt
	}
	if end := f.state.nextEnd(now); !end.IsZero() && end.Before(f.renewAt) {
		return end
	}
	return f.renewAt
}

// tell passes trouble with the directory on, once for as long as it lasts.
func (f *devFollower) tell(handle func(*Identity, error)) func(error) {
	return func(err error) {
		switch {
		case err == nil && f.trouble != "":
			f.trouble = ""
			if f.current != nil {
				handle(f.current, nil)
			}
		case err != nil && err.Error() != f.trouble:
			f.trouble = err.Error()
			handle(nil, err)
		}
	}
}
