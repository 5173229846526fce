package enginetest

import "bytes"

// Hostile is what the nth hostile client sends before it falls silent and stays:
// nothing, a part of a hello (short or as long as it is let), what is not TLS,
// what is refused.
func Hostile(n int) []byte {
	greeting := HelloFor(Service)
	switch n % 8 {
	case 0, 1:
		return nil
	case 2:
		return greeting[:1]
	case 3:
		return greeting[:len(greeting)-1]
	case 4:
		// 24,000 bytes of a hello that says it has 100,000, ten to a record.
		long := append([]byte{1, 1, 0x86, 0xa0}, make([]byte, 34)...)
		long = append(append(long, 32), make([]byte, 32)...)
		long = append(append(long, 0xff, 0xfe), make([]byte, 16000)...)
		return recut(record(long[:16000]), always(10))
	case 5:
		return record([]byte{1, 0xff, 0xff, 0xff})
	case 6:
		return bytes.Repeat(record(nil), 100)
	}
	return []byte("GET / HTTP/1.1\r\n\r\n")
}
