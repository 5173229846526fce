package enginetest

import (
	"io"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
	"github.com/isthmus-mesh/isthmus/gateway/table"
)

// proxies are what an engine does with PROXY headers: it reads them where it is
// told, and sends them to nobody.
func (s *suite) proxies() []engineTest {
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n"
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	binary := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x01\xbb"
	var out []engineTest
	for _, test := range []struct {
		name     string
		networks []netip.Prefix
		send     string
		reason   table.Reason
		client   string
	}{
		{"with a header", loopback, header, table.ReasonDone, "192.0.2.1:4711"},
		{"with a binary header", loopback, binary, table.ReasonDone, "192.0.2.1:4711"},
		{"without a header", loopback, "", table.ReasonDone, ""},
		{"a header that states nothing", loopback, "PROXY UNKNOWN\r\n", table.ReasonDone, ""},
		{"a malformed header", loopback, "PROXY TCP9 x\r\n", table.ReasonProxyHeader, ""},
		{"from another network", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, header, table.ReasonNotTLS, ""},
		{"from no network", nil, header, table.ReasonNotTLS, ""},
	} {
		for _, pieces := range []string{"at once", "byte by byte"} {
			out = append(out, engineTest{"the PROXY protocol: " + test.name + " " + pieces, func(t *testing.T) {
				to := newEndpoint(t)
				r := s.start(t, engine.Config{ProxyNetworks: test.networks}, tableTo(to.address))
				client := connect(t, r.address)
				hello := HelloFor(Service)
				size := 1 << 20
				if pieces != "at once" {
					size = 1
				}
				sent := []byte(test.send)
				if test.reason == table.ReasonDone {
					sent = append(sent, hello...)
				}
				if err := writeCut(client.TCPConn, sent, always(size)); err != nil && test.reason == table.ReasonDone {
					t.Fatal(err)
				}
				if test.reason == table.ReasonDone {
					// The endpoint sees the hello and nothing of the header.
					far := to.greeted(t, hello)
					client.finish()
					far.hearEnd()
					far.finish()
				}
				_, _ = io.Copy(io.Discard, client)
				record := r.of(t, client)
				want := test.client
				if want == "" {
					want = client.local().String()
				}
				if record.Reason != test.reason || record.Client.String() != want || record.Peer != client.local() {
					t.Errorf("the record says %+v", record)
				}
				if test.reason == table.ReasonDone && record.BytesIn != uint64(len(hello)) {
					t.Errorf("%d bytes are counted of a hello of %d", record.BytesIn, len(hello))
				}
			}})
		}
	}
	return out
}
