package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestClientIsCheckedAgain: an open connection's client is held against the roots and the
// time of now, and the answer says when to ask again.
func TestClientIsCheckedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newTestCA(t, DevCAConfig{LeafTTL: time.Hour}), newTestCA(t, DevCAConfig{LeafTTL: 2 * time.Hour})
		client, own := issue(t, ca, web), lived(nil, issue(t, ca, api))
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{client.Leaf()}}
		uri, until, err := own.Client(state)
		if err != nil || uri.String() != webID || !until.Equal(client.NotAfter()) {
			t.Errorf("%v until %v, %v; want %s until %v", uri, until, err, webID, client.NotAfter())
		}
		if _, _, err := own.Client(tls.ConnectionState{}); !errors.Is(err, ErrPeerUntrusted) {
			t.Errorf("without a certificate: %v", err)
		}
		if _, _, err := NewLive(nil).Client(state); !errors.Is(err, ErrNone) {
			t.Errorf("without roots: %v", err)
		}
		if _, _, err := lived(nil, issue(t, other, api)).Client(state); !errors.Is(err, ErrPeerUntrusted) {
			t.Errorf("after its root was taken away: %v", err)
		}

		t.Log("an intermediate that ends earlier is when to ask again; one that has ended is none")
		brief := *client.Leaf()
		brief.NotAfter = time.Now().Add(10 * time.Minute)
		state.PeerCertificates = append(state.PeerCertificates, &brief)
		if _, until, err = own.Client(state); err != nil || !until.Equal(brief.NotAfter) {
			t.Errorf("until %v, %v", until, err)
		}
		pass(11 * time.Minute)
		if _, until, err = own.Client(state); err != nil || !until.Equal(client.NotAfter()) {
			t.Errorf("until %v, %v", until, err)
		}
		pass(time.Hour)
		if _, _, err := own.Client(state); !errors.Is(err, ErrExpired) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// Who has no name, or two, is nobody.
func TestClientWithoutAName(t *testing.T) {
	ca := newTestCA(t, DevCAConfig{})
	nameless := forge(t, ca, template(x509.ExtKeyUsageClientAuth))
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{nameless.Leaf()}}
	if _, _, err := lived(nil, issue(t, ca, api)).Client(state); !errors.Is(err, ErrPeerName) {
		t.Errorf("%v", err)
	}
}
