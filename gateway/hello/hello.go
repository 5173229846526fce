package hello

import (
	"errors"
	"fmt"
)

// Verdict is what the bytes so far come to.
type Verdict uint8

// The verdicts.
const (
	// NeedMore: the hello is not whole yet, and nothing is wrong with it.
	NeedMore Verdict = iota
	// Named: a whole hello with a server name.
	Named
	// NoName: a whole hello without a server name. [Parser.Alert] is the
	// refusal if a name is needed.
	NoName
	// NotTLS: the first bytes are not a TLS record. There is no alert to send.
	NotTLS
	// Refused: the bytes break TLS or a limit. [Parser.Alert] says which alert
	// to send, [Parser.Err] why.
	Refused
)

// String is the verdict for people.
func (v Verdict) String() string {
	switch v {
	case NeedMore:
		return "need more"
	case Named:
		return "named"
	case NoName:
		return "no name"
	case NotTLS:
		return "not TLS"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// Alert is the description of a TLS alert (RFC 8446 section 6).
type Alert uint8

// The alerts of a gateway.
const (
	UnexpectedMessage Alert = 10
	RecordOverflow    Alert = 22
	DecodeError       Alert = 50
	InternalError     Alert = 80
	UnrecognizedName  Alert = 112
)

// Record is the alert as a fatal TLS record, which every version of TLS
// understands before a version is agreed.
func (a Alert) Record() [7]byte {
	record := [7]byte{6: byte(a)}
	// Type alert, version 3.3, length 2; level fatal.
	copy(record[:], "\x15\x03\x03\x00\x02\x02")
	return record
}

// Why a hello is refused, or is not one.
var (
	// ErrNotTLS indicates that the first record is no TLS record.
	ErrNotTLS = errors.New("the first bytes are not TLS")
	// ErrRecordType indicates a record that is not of the handshake.
	ErrRecordType = errors.New("a record within the hello is not of the handshake")
	// ErrRecordVersion indicates a record with a version that is not 3.x.
	ErrRecordVersion = errors.New("a record within the hello has a version other than 3.x")
	// ErrRecordEmpty indicates a record without contents.
	ErrRecordEmpty = errors.New("a record within the hello is empty")
	// ErrRecordLength indicates a record longer than 16,384 bytes.
	ErrRecordLength = errors.New("a record within the hello is longer than 16,384 bytes")
	// ErrMessageType indicates a first message that is not a ClientHello.
	ErrMessageType = errors.New("the first message is not a ClientHello")
	// ErrTooLong indicates a hello longer than the limit on messages.
	ErrTooLong = errors.New("the hello is longer than the limit")
	// ErrEndless indicates more bytes, with the headers of records, than the
	// limit on them before the hello was whole.
	ErrEndless = errors.New("the hello does not end within the limit")
	// ErrLength indicates a length within the hello that does not fit into
	// what encloses it, or is not one that its field may have.
	ErrLength = errors.New("a length within the hello is wrong")
	// ErrDuplicate indicates a second server_name extension, or a second host
	// name in it.
	ErrDuplicate = errors.New("the hello names its server twice")
	// ErrName indicates a server name that is no host name: with a byte that is
	// not visible ASCII, or with a dot at its end.
	ErrName = errors.New("the server name is not a host name")
	// ErrNameLength indicates a server name longer than 255 bytes, which no
	// route can have.
	ErrNameLength = errors.New("the server name is longer than 255 bytes")
)

// Limits bound a hello.
type Limits struct {
	// Message is the most bytes of the ClientHello message after its header of
	// four. Zero: [MaxMessage].
	Message int
	// Bytes is the most bytes before the hello is whole, with the headers of
	// records. Zero: six times Message and its header, which is a record to
	// each byte.
	Bytes int
}

const (
	// MaxMessage is the length of the longest ClientHello that can be
	// expressed: version and random, and the longest session id, cipher suites,
	// compression methods and extensions, with their lengths.
	MaxMessage = 34 + 1 + 32 + 2 + 65534 + 1 + 255 + 2 + 65535
	// MaxName is the longest server name that is read.
	MaxName = 255
	// MaxRecord is the most that a record may hold.
	MaxRecord = 1 << 14
)
