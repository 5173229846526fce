package hello_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/hello"
)

const apiName = "api.default.dc2.internal.example.consul"

// want is what a parser comes to.
type want struct {
	verdict hello.Verdict
	alert   hello.Alert
	err     error
	name    string
}

var (
	named1   = want{verdict: hello.Named, name: apiName}
	noName   = want{verdict: hello.NoName, alert: hello.UnrecognizedName}
	needMore = want{verdict: hello.NeedMore}
)

func refused(alert hello.Alert, err error) want {
	return want{verdict: hello.Refused, alert: alert, err: err}
}

func malformed(err error) want { return refused(hello.DecodeError, err) }

func outcome(p *hello.Parser, verdict hello.Verdict) want {
	return want{verdict, p.Alert(), p.Err(), p.ServerName()}
}

// check parses the stream whole and then a byte at a time: the verdict must be
// the wanted one both times, and must come at the same byte.
func check(t *testing.T, limits hello.Limits, stream []byte, wanted want) {
	t.Helper()
	whole := hello.New(limits)
	if got := outcome(&whole, whole.Feed(stream)); got != wanted {
		t.Errorf("whole: got %+v; want %+v", got, wanted)
	}
	single := hello.New(limits)
	var got want
	for i := range stream {
		got = outcome(&single, single.Feed(stream[i:i+1]))
	}
	if got != wanted {
		t.Errorf("a byte at a time: got %+v; want %+v", got, wanted)
	}
	if whole.Bytes() != single.Bytes() {
		t.Errorf("the verdict came after %d bytes when whole, %d a byte at a time", whole.Bytes(), single.Bytes())
	}
}

func TestVerdicts(t *testing.T) {
	ordinaryNamed := named(apiName)
	edit := func(change func(*parts)) []byte {
		p := named(apiName)
		change(&p)
		return p.stream()
	}
	extensions := func(e ...[]byte) []byte { return ordinary(e...).stream() }
	sni := func(data []byte) []byte { return extensions(extension(0, data)) }
	longest := strings.Repeat("a", 255)
	otherName := serverName(join([]byte{7}, with16([]byte("x"))))

	for _, test := range []struct {
		name   string
		stream []byte
		want   want
	}{
		{"an ordinary hello", ordinaryNamed.stream(), named1},
		{"the name first", extensions(serverName(hostName(apiName)), extension(9, nil)), named1},
		{"the name last", extensions(extension(9, nil), serverName(hostName(apiName))), named1},
		{"bytes of the server's behind it", join(ordinaryNamed.stream(), []byte("anything")), named1},
		{"another message behind it in its record", record(22, join(message(ordinaryNamed.body()), []byte{1, 2, 3})), named1},
		{"the case is kept", named("API.Default").stream(), want{verdict: hello.Named, name: "API.Default"}},
		{"a name of one byte", named("a").stream(), want{verdict: hello.Named, name: "a"}},
		{"the longest name", named(longest).stream(), want{verdict: hello.Named, name: longest}},
		{"a name with every visible byte", named("!~_*").stream(), want{verdict: hello.Named, name: "!~_*"}},
		{"no session id", edit(func(p *parts) { p.session = with8(nil) }), named1},
		{"the longest lists", edit(func(p *parts) {
			p.suites, p.compression = with16(make([]byte, 65534)), with8(make([]byte, 255))
		}), named1},
		{"one suite", edit(func(p *parts) { p.suites = with16([]byte{1, 2}) }), named1},
		{"a name of another kind before", sni(with16(join([]byte{7}, with16([]byte("x y")), hostName(apiName)))), named1},
		{"a name of another kind and 300 bytes", sni(with16(join([]byte{7}, with16(filler(300)), hostName(apiName)))), named1},
		{"a name of another kind behind", sni(with16(join(hostName(apiName), []byte{7}, with16(nil)))), named1},

		{"no extensions field, as in TLS 1.0", edit(func(p *parts) { p.extensions = nil }), noName},
		{"no extensions", extensions(), noName},
		{"no server_name", extensions(extension(9, []byte{1}), extension(10, nil)), noName},
		{"only names of other kinds", sni(with16(join([]byte{7}, with16([]byte("x"))))), noName},

		{"nothing", nil, needMore},
		{"all but the last byte", ordinaryNamed.stream()[:len(ordinaryNamed.stream())-1], needMore},

		{"HTTP", []byte("GET / HTTP/1.1\r\n"), want{verdict: hello.NotTLS, err: hello.ErrNotTLS}},
		{"SSL 2", []byte{0x80, 0x2e, 1, 3, 1}, want{verdict: hello.NotTLS, err: hello.ErrNotTLS}},
		{"a type below those of TLS", []byte{19, 3, 1}, want{verdict: hello.NotTLS, err: hello.ErrNotTLS}},
		{"a type above those of TLS", []byte{24, 3, 1}, want{verdict: hello.NotTLS, err: hello.ErrNotTLS}},
		{"a handshake byte by chance", []byte{22, 2, 0}, want{verdict: hello.NotTLS, err: hello.ErrNotTLS}},
		{"a handshake byte by chance, above", []byte{22, 4, 0}, want{verdict: hello.NotTLS, err: hello.ErrNotTLS}},

		{"change_cipher_spec", record(20, []byte{1}), refused(hello.UnexpectedMessage, hello.ErrRecordType)},
		{"an alert", record(21, []byte{2, 0}), refused(hello.UnexpectedMessage, hello.ErrRecordType)},
		{"application data", record(23, []byte{1}), refused(hello.UnexpectedMessage, hello.ErrRecordType)},
		{"an empty record first", record(22, nil), refused(hello.UnexpectedMessage, hello.ErrRecordEmpty)},
		{"an empty record later", join(record(22, []byte{1}), record(22, nil)), refused(hello.UnexpectedMessage, hello.ErrRecordEmpty)},
		{"an alert later", join(record(22, []byte{1}), record(21, []byte{2, 0})), refused(hello.UnexpectedMessage, hello.ErrRecordType)},
		{"an unknown type later", join(record(22, []byte{1}), []byte("G")), refused(hello.UnexpectedMessage, hello.ErrRecordType)},
		{"a wrong version later", join(record(22, []byte{1}), []byte{22, 2}), malformed(hello.ErrRecordVersion)},
		{"the longest record", records(message(join(named(apiName).body())), hello.MaxRecord), named1},
		{"a record too long", []byte{22, 3, 1, 0x40, 0x01}, refused(hello.RecordOverflow, hello.ErrRecordLength)},
		{"a record of 16,384", []byte{22, 3, 1, 0x40, 0x00}, needMore},
		{"a message before ClientHello", record(22, []byte{0}), refused(hello.UnexpectedMessage, hello.ErrMessageType)},
		{"ServerHello", record(22, []byte{2}), refused(hello.UnexpectedMessage, hello.ErrMessageType)},

		{"a hello shorter than its fixed part", record(22, message(make([]byte, 33))), malformed(hello.ErrLength)},
		{"a hello that ends at the session id", record(22, message(make([]byte, 34))), malformed(hello.ErrLength)},
		{"a hello that ends at the suites", record(22, message(make([]byte, 36))), malformed(hello.ErrLength)},
		{"a hello that ends at the compression", record(22, message(join(make([]byte, 34), []byte{0, 0, 2, 1, 1}))), malformed(hello.ErrLength)},
		{"a session id of 33", edit(func(p *parts) { p.session = with8(make([]byte, 33)) }), malformed(hello.ErrLength)},
		{"a session id beyond the hello", record(22, message(join(make([]byte, 34), []byte{32, 1}))), malformed(hello.ErrLength)},
		{"no suites", edit(func(p *parts) { p.suites = with16(nil) }), malformed(hello.ErrLength)},
		{"half a suite", edit(func(p *parts) { p.suites = with16([]byte{1, 2, 3}) }), malformed(hello.ErrLength)},
		{"suites beyond the hello", record(22, message(join(make([]byte, 35), []byte{0, 4, 1, 1}))), malformed(hello.ErrLength)},
		{"no compression", edit(func(p *parts) { p.compression = with8(nil) }), malformed(hello.ErrLength)},
		{"compression beyond the hello", record(22, message(join(make([]byte, 35), []byte{0, 2, 1, 1, 2, 0}))), malformed(hello.ErrLength)},
		{"half a length of extensions", edit(func(p *parts) { p.extensions = []byte{0} }), malformed(hello.ErrLength)},
		{"extensions shorter than the hello", edit(func(p *parts) { p.extensions = join(with16(nil), []byte{0}) }), malformed(hello.ErrLength)},
		{"extensions longer than the hello", edit(func(p *parts) { p.extensions = []byte{0, 1} }), malformed(hello.ErrLength)},
		{"half a type of extension", edit(func(p *parts) { p.extensions = with16([]byte{0}) }), malformed(hello.ErrLength)},
		{"half a length of extension", edit(func(p *parts) { p.extensions = with16([]byte{0, 9, 0}) }), malformed(hello.ErrLength)},
		{"an extension beyond the others", edit(func(p *parts) { p.extensions = with16([]byte{0, 9, 0, 1}) }), malformed(hello.ErrLength)},
		{"server_name beyond the others", edit(func(p *parts) { p.extensions = with16([]byte{0, 0, 0, 3, 0, 1}) }), malformed(hello.ErrLength)},

		{"server_name twice, of other kinds", extensions(otherName, otherName), malformed(hello.ErrDuplicate)},
		{"server_name twice, of another kind first", extensions(otherName, serverName(hostName("a"))), malformed(hello.ErrDuplicate)},
		{"server_name twice", extensions(serverName(hostName("a")), serverName(hostName("a"))), malformed(hello.ErrDuplicate)},
		{"two host names", sni(with16(join(hostName("a"), hostName("b")))), malformed(hello.ErrDuplicate)},
		{"an empty server_name", sni(nil), malformed(hello.ErrLength)},
		{"half a length of list", sni([]byte{0}), malformed(hello.ErrLength)},
		{"an empty list", sni(with16(nil)), malformed(hello.ErrLength)},
		{"a list shorter than its extension", sni(join(with16(hostName("a")), []byte{0})), malformed(hello.ErrLength)},
		{"a list longer than its extension", sni(join(u16(5), hostName("a"))), malformed(hello.ErrLength)},
		{"an entry without a length", sni(with16([]byte{0})), malformed(hello.ErrLength)},
		{"an entry with half a length", sni(with16([]byte{0, 0})), malformed(hello.ErrLength)},
		{"a name beyond its list", sni(with16([]byte{0, 0, 2, 'a'})), malformed(hello.ErrLength)},
		{"a long name beyond its list", sni(with16([]byte{0, 1, 0, 'a'})), malformed(hello.ErrLength)},
		{"another name beyond its list", sni(with16([]byte{7, 0, 2, 'a'})), malformed(hello.ErrLength)},
		{"half an entry behind a name", sni(with16(join(hostName("a"), []byte{7}))), malformed(hello.ErrLength)},
		{"an empty name", sni(with16(hostName(""))), malformed(hello.ErrLength)},
		{"a name with a dot at its end", named("api.").stream(), malformed(hello.ErrName)},
		{"a name with a space", named("a b").stream(), malformed(hello.ErrName)},
		{"a name with a control byte", named("a\x7fb").stream(), malformed(hello.ErrName)},
		{"a name with NUL", named("a\x00b").stream(), malformed(hello.ErrName)},
		{"a name beyond ASCII", named("ä").stream(), malformed(hello.ErrName)},
		{"a name of 256 bytes", named(longest + "a").stream(), refused(hello.UnrecognizedName, hello.ErrNameLength)},
	} {
		t.Run(test.name, func(t *testing.T) { check(t, hello.Limits{}, test.stream, test.want) })
	}
}

// The verdict comes with the byte that decides it, not later.
func TestVerdictComesAtTheFirstByteThatShowsIt(t *testing.T) {
	stream := named(apiName).stream()
	for _, test := range []struct {
		name   string
		stream []byte
		at     int
	}{
		{"a whole hello", join(stream, []byte("rest")), len(stream)},
		{"HTTP", []byte("GET /"), 1},
		{"an empty record", join(record(22, nil), stream), 5},
		{"a record too long", join([]byte{22, 3, 1, 0xff, 0xff}, stream), 5},
		{"another message", record(22, []byte{2, 0, 0, 0}), 6},
		{"a message too long", record(22, []byte{1, 0xff, 0xff, 0xff, 0}), 9},
		{"a session id too long", record(22, join([]byte{1}, u24(1000), make([]byte, 34), []byte{33}, make([]byte, 60))), 5 + 4 + 35},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := hello.New(hello.Limits{})
			p.Feed(test.stream)
			if p.Bytes() != test.at {
				t.Errorf("the verdict came after %d bytes; want %d", p.Bytes(), test.at)
			}
		})
	}
}

func TestLegalCuts(t *testing.T) {
	// Post-quantum key shares of over 4 KiB, and more than 16 KiB of extensions.
	long := ordinary(
		extension(0x33, make([]byte, 4600)),
		extension(0x15, make([]byte, 13<<10)),
		serverName(hostName(apiName)),
	)
	for _, size := range []int{1, 2, 5, 1000, hello.MaxRecord} {
		check(t, hello.Limits{}, records(message(long.body()), size), named1)
	}
}

func TestLongestHelloThatTLSCanExpress(t *testing.T) {
	name := serverName(hostName(apiName))
	p := parts{
		session:     with8(make([]byte, 32)),
		suites:      with16(make([]byte, 65534)),
		compression: with8(make([]byte, 255)),
		extensions:  with16(join(name, extension(0x15, make([]byte, 65535-len(name)-4)))),
	}
	if got := len(p.body()); got != hello.MaxMessage {
		t.Fatalf("the longest hello has %d bytes; MaxMessage says %d", got, hello.MaxMessage)
	}
	check(t, hello.Limits{}, records(message(p.body()), hello.MaxRecord), named1)
	check(t, hello.Limits{}, records(message(p.body()), 1), named1)
	check(t, hello.Limits{}, record(22, join([]byte{1}, u24(hello.MaxMessage+1))), refused(hello.RecordOverflow, hello.ErrTooLong))
}

func TestLimits(t *testing.T) {
	p := named(apiName)
	body, stream := p.body(), p.stream()
	tooLong, endless := refused(hello.RecordOverflow, hello.ErrTooLong), refused(hello.RecordOverflow, hello.ErrEndless)
	for _, test := range []struct {
		name   string
		limits hello.Limits
		stream []byte
		want   want
	}{
		{"as long as the limit", hello.Limits{Message: len(body)}, stream, named1},
		{"one longer", hello.Limits{Message: len(body) - 1}, stream, tooLong},
		{"as many bytes as the limit", hello.Limits{Bytes: len(stream)}, stream, named1},
		{"one more", hello.Limits{Bytes: len(stream) - 1}, stream, endless},
		{"waiting at the limit", hello.Limits{Bytes: 20}, stream[:20], needMore},
		{"a limit of one byte on the message", hello.Limits{Message: 1}, stream, tooLong},
		{"a limit below the fixed part", hello.Limits{Message: 10}, record(22, []byte{1, 0, 0, 11}), tooLong},
		{"a limit of one byte", hello.Limits{Bytes: 1}, stream, endless},
		{"limits below zero are none", hello.Limits{Message: -1, Bytes: -1}, stream, named1},
		{"the limit falls on the end of a record", hello.Limits{Bytes: 105}, records(message(body), 100), endless},
		{"a record to each byte fits by default", hello.Limits{Message: len(body)}, records(message(body), 1), named1},
	} {
		t.Run(test.name, func(t *testing.T) { check(t, test.limits, test.stream, test.want) })
	}
}

// The byte that goes beyond the limit is refused and not read.
func TestEndlessHelloIsReadUpToTheLimit(t *testing.T) {
	p := hello.New(hello.Limits{Bytes: 20})
	if verdict := p.Feed(named(apiName).stream()); verdict != hello.Refused || p.Bytes() != 20 {
		t.Errorf("%v after %d bytes, want 20", verdict, p.Bytes())
	}
}

func TestFinalVerdictStays(t *testing.T) {
	for _, first := range [][]byte{named("a").stream(), ordinary().stream(), []byte("G"), record(22, nil)} {
		var p hello.Parser
		before := outcome(&p, p.Feed(first))
		if after := outcome(&p, p.Feed(named(apiName).stream())); after != before {
			t.Errorf("the verdict changed from %+v to %+v", before, after)
		}
	}
}

func TestAppendFolded(t *testing.T) {
	var p hello.Parser
	p.Feed(named("AZ[@`az{.Dc1").stream())
	if got := p.AppendFolded([]byte(">")); string(got) != ">az[@`az{.dc1" {
		t.Errorf("folded to %q", got)
	}
	var none hello.Parser
	none.Feed(ordinary().stream())
	if got := none.AppendFolded([]byte(">")); string(got) != ">" {
		t.Errorf("a hello without a name folded to %q", got)
	}
	// A name that was read, but in a hello that is not whole yet.
	var half hello.Parser
	stream := named(apiName).stream()
	half.Feed(stream[:len(stream)-1])
	if half.ServerName() != "" || len(half.AppendFolded(nil)) != 0 {
		t.Error("a name was given before the hello was whole")
	}
}

func TestAlertRecord(t *testing.T) {
	got := hello.UnrecognizedName.Record()
	if !bytes.Equal(got[:], []byte{21, 3, 3, 0, 2, 2, 112}) {
		t.Errorf("got % x", got)
	}
	if hello.RecordOverflow != 22 || hello.UnexpectedMessage != 10 || hello.DecodeError != 50 || hello.InternalError != 80 {
		t.Error("an alert has a number other than that of RFC 8446")
	}
}

func TestParserAllocatesNothing(t *testing.T) {
	stream := named(apiName).stream()
	folded := make([]byte, 0, hello.MaxName)
	if n := testing.AllocsPerRun(100, func() {
		var p hello.Parser
		p.Feed(stream)
		folded = p.AppendFolded(folded[:0])
	}); n != 0 {
		t.Errorf("%v allocations for one hello", n)
	}
}

func TestVerdictsHaveNames(t *testing.T) {
	for verdict, want := range map[hello.Verdict]string{
		hello.NeedMore: "need more", hello.Named: "named", hello.NoName: "no name",
		hello.NotTLS: "not TLS", hello.Refused: "refused", 9: "verdict 9",
	} {
		if got := verdict.String(); got != want {
			t.Errorf("%d is named %q; want %q", verdict, got, want)
		}
	}
}
