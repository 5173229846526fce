package hello_test

import (
	"bytes"
	"encoding/binary"
)

// A ClientHello is built from parts that a test may bend one at a time.

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u24(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }

// filler is contents that say nothing, and are not zero: a parser that takes
// them for a number shows it.
func filler(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func with8(b []byte) []byte  { return join([]byte{byte(len(b))}, b) }
func with16(b []byte) []byte { return join(u16(len(b)), b) }

// extension is one extension of a type.
func extension(kind int, data []byte) []byte { return join(u16(kind), with16(data)) }

// hostName is one entry of a server name list.
func hostName(name string) []byte { return join([]byte{0}, with16([]byte(name))) }

// serverName is the extension with the given entries.
func serverName(entries ...[]byte) []byte { return extension(0, with16(join(entries...))) }

// parts are the fields of a hello, each with its own length in front.
type parts struct {
	session, suites, compression []byte
	// extensions is the whole block, or nil for none at all.
	extensions []byte
}

// ordinary is a hello like that of a small client.
func ordinary(extensions ...[]byte) parts {
	return parts{
		session:     with8(filler(32)),
		suites:      with16([]byte{0x13, 0x01, 0x13, 0x02}),
		compression: with8([]byte{0, 1}),
		extensions:  with16(join(extensions...)),
	}
}

// body is the message without its header.
func (p parts) body() []byte {
	return join(filler(34), p.session, p.suites, p.compression, p.extensions)
}

// message puts the header of a ClientHello before a body.
func message(body []byte) []byte { return join([]byte{1}, u24(len(body)), body) }

// record is one record.
func record(kind byte, contents []byte) []byte {
	return join([]byte{kind, 3, 1}, with16(contents))
}

// records cuts a message into records of at most size bytes.
func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, record(22, message[:n])...)
		message = message[n:]
	}
	return out
}

// stream is the parts in as few records as can be.
func (p parts) stream() []byte { return records(message(p.body()), 1<<14) }

// named is an ordinary hello for a name.
func named(name string) parts {
	return ordinary(extension(0x2b, []byte{2, 3, 4}), serverName(hostName(name)), extension(0x33, filler(40)))
}
