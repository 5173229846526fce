package hello

const (
	// messageHeader is the length of the header of a handshake message: a byte
	// of type, three of length.
	messageHeader = 4
	// typeClientHello is the handshake type (RFC 8446 section 4).
	typeClientHello = 1
	// extensionServerName is the extension, nameTypeHost the kind of name (RFC
	// 6066 section 3).
	extensionServerName = 0
	nameTypeHost        = 0
	// fixedLength is that of legacy_version and random, which say nothing here.
	fixedLength = 2 + 32
	// maxSessionID is the longest session id.
	maxSessionID = 32
)

// field is a field of the ClientHello, in the order in which they come.
type field uint8

const (
	fieldNone field = iota
	fieldType
	fieldLength
	fieldFixed
	fieldSessionLength
	fieldSession
	fieldSuitesLength
	fieldSuites
	fieldCompressionLength
	fieldCompression
	fieldExtensionsLength
	fieldExtensionType
	fieldExtensionLength
	fieldExtension
	fieldListLength
	fieldNameType
	fieldNameLength
	fieldOtherName
	fieldName
)

// message reads the bytes of the ClientHello message, field by field, with no
// regard to records. at counts the bytes after the message's header; the ends
// are positions in that count.
type message struct {
	field field
	// need is how many bytes of the field are still to come.
	need int
	// value is the number that is being read.
	value int
	at    int

	end           int
	extensionsEnd int
	extensionEnd  int

	extension  int
	nameType   int
	hasName    bool
	name       [MaxName]byte
	nameLength int
}

// read reads from b up to its end or to the end of the hello, and returns how
// many bytes it took.
func (m *message) read(p *Parser, b []byte) (taken int) {
	for p.verdict == NeedMore {
		if m.need == 0 {
			// Fields may be empty, so that one byte can end several.
			m.next(p)
			continue
		}
		part := b[taken:min(len(b), taken+m.need)]
		if len(part) == 0 {
			break
		}
		taken += len(part)
		m.take(part)
	}
	return taken
}

// take reads bytes of the present field.
func (m *message) take(part []byte) {
	m.need -= len(part)
	m.at += len(part)
	switch m.field {
	case fieldFixed, fieldSession, fieldSuites, fieldCompression, fieldExtension, fieldOtherName:
	case fieldName:
		m.nameLength += copy(m.name[m.nameLength:], part)
	default:
		for _, c := range part {
			m.value = m.value<<8 | int(c)
		}
	}
}

// number ends a field that is a number.
func (m *message) number() int {
	value := m.value
	m.value = 0
	return value
}

// next ends the present field and starts the one that follows it.
func (m *message) next(p *Parser) {
	switch m.field {
	case fieldNone:
		m.field, m.need = fieldType, 1
	case fieldType:
		if m.number() == typeClientHello {
			m.field, m.need = fieldLength, messageHeader-1
		} else {
			p.refuse(UnexpectedMessage, ErrMessageType)
		}
	case fieldLength:
		m.at, m.end = 0, m.number()
		if m.end <= p.limits.Message {
			m.start(p, fieldFixed, fixedLength, m.end)
		} else {
			p.refuse(RecordOverflow, ErrTooLong)
		}
	case fieldFixed:
		m.start(p, fieldSessionLength, 1, m.end)
	case fieldSessionLength:
		length := m.number()
		m.startIf(p, length <= maxSessionID, fieldSession, length, m.end)
	case fieldSession:
		m.start(p, fieldSuitesLength, 2, m.end)
	case fieldSuitesLength:
		length := m.number()
		m.startIf(p, length > 0 && length%2 == 0, fieldSuites, length, m.end)
	case fieldSuites:
		m.start(p, fieldCompressionLength, 1, m.end)
	case fieldCompressionLength:
		length := m.number()
		m.startIf(p, length > 0, fieldCompression, length, m.end)
	default:
		m.nextOfExtensions(p)
	}
}

// nextOfExtensions is next from the end of the compression methods on.
func (m *message) nextOfExtensions(p *Parser) {
	switch m.field {
	case fieldCompression:
		if m.at == m.end {
			// Before TLS 1.3 there need not be extensions.
			p.finish()
		} else {
			m.start(p, fieldExtensionsLength, 2, m.end)
		}
	case fieldExtensionsLength:
		m.extensionsEnd = m.at + m.number()
		if m.extensionsEnd == m.end {
			m.nextExtension(p)
		} else {
			p.refuse(DecodeError, ErrLength)
		}
	case fieldExtensionType:
		m.extension = m.number()
		m.start(p, fieldExtensionLength, 2, m.extensionsEnd)
	case fieldExtensionLength:
		m.startExtension(p, m.number())
	case fieldExtension:
		m.nextExtension(p)
	default:
		m.nextOfNames(p)
	}
}

// nextExtension starts the next extension, or ends the hello.
func (m *message) nextExtension(p *Parser) {
	if m.at == m.extensionsEnd {
		p.finish()
	} else {
		m.start(p, fieldExtensionType, 2, m.extensionsEnd)
	}
}

func (m *message) startExtension(p *Parser, length int) {
	m.extensionEnd = m.at + length
	switch {
	case m.extension != extensionServerName:
		m.start(p, fieldExtension, length, m.extensionsEnd)
	case m.hasName:
		p.refuse(DecodeError, ErrDuplicate)
	case m.extensionEnd > m.extensionsEnd:
		p.refuse(DecodeError, ErrLength)
	default:
		m.hasName = true
		m.start(p, fieldListLength, 2, m.extensionEnd)
	}
}

// nextOfNames is next for the fields within the server_name extension.
func (m *message) nextOfNames(p *Parser) {
	switch m.field {
	case fieldListLength:
		length := m.number()
		m.startIf(p, m.at+length == m.extensionEnd, fieldNameType, 1, m.extensionEnd)
	case fieldNameType:
		m.nameType = m.number()
		m.start(p, fieldNameLength, 2, m.extensionEnd)
	case fieldNameLength:
		m.startName(p, m.number())
	case fieldOtherName:
		m.nextName(p)
	case fieldName:
		if isHostName(m.name[:m.nameLength]) {
			m.nextName(p)
		} else {
			p.refuse(DecodeError, ErrName)
		}
	}
}

// startName starts a name. Names of other kinds are passed over: their form is
// taken to be that of host names, as all implementations do.
func (m *message) startName(p *Parser, length int) {
	switch {
	case m.nameType != nameTypeHost:
		m.start(p, fieldOtherName, length, m.extensionEnd)
	case m.nameLength > 0:
		p.refuse(DecodeError, ErrDuplicate)
	case length == 0 || m.at+length > m.extensionEnd:
		p.refuse(DecodeError, ErrLength)
	case length > MaxName:
		p.refuse(UnrecognizedName, ErrNameLength)
	default:
		m.field, m.need = fieldName, length
	}
}

func (m *message) nextName(p *Parser) {
	if m.at == m.extensionEnd {
		m.nextExtension(p)
	} else {
		m.start(p, fieldNameType, 1, m.extensionEnd)
	}
}

// isHostName reports whether a name that is not empty is of visible ASCII and
// without a dot at its end.
func isHostName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return name[len(name)-1] != '.'
}

// start starts a field of the given length within what ends at end.
func (m *message) start(p *Parser, f field, length, end int) {
	if m.at+length <= end {
		m.field, m.need = f, length
	} else {
		p.refuse(DecodeError, ErrLength)
	}
}

// startIf is start for a length that must hold a condition of its own.
func (m *message) startIf(p *Parser, legal bool, f field, length, end int) {
	if legal {
		m.start(p, f, length, end)
	} else {
		p.refuse(DecodeError, ErrLength)
	}
}
