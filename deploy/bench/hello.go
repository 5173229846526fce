package main

import "encoding/binary"

// helloLength is that of the ClientHello that every connection starts with: the
// size to which many clients pad theirs.
const helloLength = 517

// clientHello builds a legal ClientHello record of helloLength bytes for a
// server name. Its random is fixed: nobody decrypts anything here.
func clientHello(name string) []byte {
	vector := func(lengthBytes int, parts ...[]byte) []byte {
		var body []byte
		for _, part := range parts {
			body = append(body, part...)
		}
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(body)))
		return append(length[8-lengthBytes:], body...)
	}
	extension := func(kind uint16, body []byte) []byte {
		return append(binary.BigEndian.AppendUint16(nil, kind), vector(2, body)...)
	}
	random := make([]byte, 32)
	for i := range random {
		random[i] = byte(i)
	}
	build := func(padding int) []byte {
		extensions := vector(2,
			extension(0, vector(2, []byte{0}, vector(2, []byte(name)))), // server_name
			extension(10, vector(2, []byte{0, 29})),                     // supported_groups: x25519
			extension(13, vector(2, []byte{4, 3, 8, 4, 8, 7})),          // signature_algorithms
			extension(43, vector(1, []byte{3, 4})),                      // supported_versions: TLS 1.3
			extension(51, vector(2, []byte{0, 29}, vector(2, random))),  // key_share
			extension(21, make([]byte, padding)),                        // padding
		)
		message := vector(3, []byte{3, 3}, random, vector(1, random), vector(2, []byte{0x13, 1, 0x13, 2, 0x13, 3}), []byte{1, 0}, extensions)
		return append([]byte{22, 3, 1}, vector(2, []byte{1}, message)...)
	}
	return build(helloLength - len(build(0)))
}
