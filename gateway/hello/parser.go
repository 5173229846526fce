package hello

// The content types of TLS records (RFC 8446 section 5.1).
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23
)

// recordHeader is the length of the header of a record.
const recordHeader = 5

// Parser reads one ClientHello. The zero Parser is ready and has the default
// limits. It is not safe for concurrent use.
type Parser struct {
	verdict Verdict
	alert   Alert
	err     error

	limits Limits
	// bytes is how many were read before the hello was whole.
	bytes int
	// header is how many bytes of the present record's header were read, length
	// the length as far as read, left what is still to come of its contents.
	header, length, left int
	// later is set once the first record's header was read.
	later bool

	message message
}

// New returns a parser with the given limits.
func New(limits Limits) Parser { return Parser{limits: limits} }

// Feed reads the next bytes and returns the verdict so far. Bytes after a
// final verdict are not looked at: they belong to the server.
func (p *Parser) Feed(b []byte) Verdict {
	p.withDefaults()
	for len(b) > 0 && p.verdict == NeedMore {
		n := 0
		switch {
		case p.bytes == p.limits.Bytes:
			p.refuse(RecordOverflow, ErrEndless)
		case p.left == 0:
			n = 1
			p.readHeader(b[0])
		default:
			n = p.message.read(p, b[:min(len(b), p.left, p.limits.Bytes-p.bytes)])
			p.left -= n
		}
		p.bytes += n
		b = b[n:]
	}
	return p.verdict
}

func (p *Parser) withDefaults() {
	if p.limits.Message <= 0 {
		p.limits.Message = MaxMessage
	}
	if p.limits.Bytes <= 0 {
		p.limits.Bytes = (recordHeader + 1) * (messageHeader + p.limits.Message)
	}
}

// readHeader reads one byte of a record's header, and judges it at once: an
// HTTP request is told by its first letter.
func (p *Parser) readHeader(c byte) {
	switch p.header {
	case 0:
		p.readType(c)
	case 1:
		if c != 3 {
			p.refuseFirst(DecodeError, ErrRecordVersion)
		}
	case 2:
		// The minor version says nothing (RFC 8446 section 5.1).
	case 3:
		p.length = int(c) << 8
	case 4:
		p.length |= int(c)
		switch {
		case p.length == 0:
			p.refuse(UnexpectedMessage, ErrRecordEmpty)
		case p.length > MaxRecord:
			p.refuse(RecordOverflow, ErrRecordLength)
		}
		p.left, p.later = p.length, true
	}
	p.header = (p.header + 1) % recordHeader
}

func (p *Parser) readType(c byte) {
	switch c {
	case typeHandshake:
	case typeChangeCipherSpec, typeAlert, typeApplicationData:
		p.refuse(UnexpectedMessage, ErrRecordType)
	default:
		p.refuseFirst(UnexpectedMessage, ErrRecordType)
	}
}

// refuseFirst refuses bytes that in the first record mean that this is not TLS.
func (p *Parser) refuseFirst(alert Alert, err error) {
	if p.later {
		p.refuse(alert, err)
	} else {
		p.verdict, p.err = NotTLS, ErrNotTLS
	}
}

func (p *Parser) refuse(alert Alert, err error) {
	p.verdict, p.alert, p.err = Refused, alert, err
}

// finish gives the verdict on a whole hello.
func (p *Parser) finish() {
	if p.message.nameLength > 0 {
		p.verdict = Named
	} else {
		p.verdict, p.alert = NoName, UnrecognizedName
	}
}

// Alert returns the alert to send on [Refused] and [NoName]; 0 otherwise.
func (p *Parser) Alert() Alert { return p.alert }

// Err returns why the verdict is [Refused] or [NotTLS]; nil otherwise.
func (p *Parser) Err() error { return p.err }

// Bytes returns how many bytes were read: those up to the end of the hello.
func (p *Parser) Bytes() int { return p.bytes }

// ServerName returns the name as the client wrote it; empty unless [Named].
func (p *Parser) ServerName() string {
	if p.verdict != Named {
		return ""
	}
	return string(p.message.name[:p.message.nameLength])
}

// AppendFolded appends the name in lower case, as tables hold it. It appends
// nothing unless [Named].
func (p *Parser) AppendFolded(b []byte) []byte {
	if p.verdict != Named {
		return b
	}
	for _, c := range p.message.name[:p.message.nameLength] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}
