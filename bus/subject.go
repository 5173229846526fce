package bus

import (
	"fmt"
	"strings"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// subjectRoot is the first token of every subject of ours.
const subjectRoot = "isthmus"

// MaxSubject is the longest subject in bytes. A NATS server takes a control
// line of 4,096 by default, which holds the reply subject too.
const MaxSubject = 3584

// Subject is where a key's messages are published:
// isthmus.<class>.<datacenter>.<kind>[.<part>…].
//
// Each part is one token. Letters, digits, `-`, `_`, `/`, `:`, `~`, `@`, `+`, `,`
// and `=` stand for themselves, every other byte as %XX; an empty part is a
// lone `%`. So any name survives (dots, blanks, wildcards, NUL-free bytes of any
// encoding), and [ParseSubject] gives it back. Possible error: [ErrTooLarge].
func Subject(class isthmusv1.Class, datacenter string, key isthmusv1.Key) (string, error) {
	var b strings.Builder
	b.WriteString(subjectRoot)
	for _, part := range append([]string{string(class), datacenter, string(key.Kind)}, key.Parts()...) {
		b.WriteByte('.')
		writeToken(&b, part)
	}
	if b.Len() > MaxSubject {
		return "", fmt.Errorf("subject of %.80s… has %d bytes, %d are the most: %w", key, b.Len(), MaxSubject, ErrTooLarge)
	}
	return b.String(), nil
}

// ParseSubject is the inverse of [Subject]. It takes only what Subject makes,
// so that two subjects never name one key. Possible error: [ErrMalformed].
func ParseSubject(subject string) (class isthmusv1.Class, datacenter string, key isthmusv1.Key, err error) {
	var parts []string
	for i, token := range strings.Split(subject, ".") {
		part, ok := readToken(token)
		if i == 0 {
			part, ok = token, token == subjectRoot
		}
		if !ok {
			return "", "", isthmusv1.Key{}, fmt.Errorf("subject %q: token %d: %w", subject, i+1, ErrMalformed)
		}
		parts = append(parts, part)
	}
	if len(parts) < 4 {
		return "", "", isthmusv1.Key{}, fmt.Errorf("subject %q has %d tokens, 4 are the least: %w", subject, len(parts), ErrMalformed)
	}
	key = isthmusv1.NewKey(isthmusv1.Kind(parts[3]), parts[4:]...)
	class, datacenter = isthmusv1.Class(parts[1]), parts[2]
	if back, err := Subject(class, datacenter, key); err != nil || back != subject {
		return "", "", isthmusv1.Key{}, fmt.Errorf("subject %q is not the one of its key: %w", subject, ErrMalformed)
	}
	return class, datacenter, key, nil
}

// streamSubjects is what a stream is made of: every subject of its class and
// datacenter.
func streamSubjects(stream string) (string, error) {
	class, datacenter, ok := isthmusv1.ParseStreamName(stream)
	if !ok {
		return "", fmt.Errorf("stream %q is not named CATALOG_, ROUTES_ or STATUS_ and a datacenter: %w", stream, ErrMalformed)
	}
	return subjectPrefix(class, datacenter) + ">", nil
}

func subjectPrefix(class isthmusv1.Class, datacenter string) string {
	var b strings.Builder
	b.WriteString(subjectRoot + "." + string(class) + ".")
	writeToken(&b, datacenter)
	b.WriteByte('.')
	return b.String()
}

// streamSubject is [Subject] for a key of a stream.
func streamSubject(stream string, key isthmusv1.Key) (string, error) {
	class, datacenter, ok := isthmusv1.ParseStreamName(stream)
	if !ok {
		return "", fmt.Errorf("stream %q: %w", stream, ErrMalformed)
	}
	return Subject(class, datacenter, key)
}

const upperHex = "0123456789ABCDEF"

func writeToken(b *strings.Builder, part string) {
	if part == "" {
		b.WriteByte('%')
		return
	}
	for i := range len(part) {
		if c := part[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
}

func readToken(token string) (part string, ok bool) {
	if token == "%" {
		return "", true
	}
	if token == "" {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c != '%' {
			if !plain(c) {
				return "", false
			}
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(token) {
			return "", false
		}
		high, low := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), true
}

func plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-_/:~@+,=", c) >= 0
}
