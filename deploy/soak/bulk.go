package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// bulkRequest in a request asks for bulkBlocks blocks: more than the buffers of
	// all sockets on the way hold, so that a client that does not read leaves bytes
	// with the gateway.
	bulkRequest = 1 << 63
	bulkBlocks  = 256
	blockLength = 64 << 10
)

// nextBulk is a request for blocks, and its text.
func nextBulk() (request uint64, text []byte) {
	request = bulkRequest | lastRequest.Add(1)
	return request, binary.BigEndian.AppendUint64(nil, request)
}

// block is the block of that number of a request. No two are alike.
func block(request uint64, number int) []byte {
	b := make([]byte, blockLength)
	for at := 0; at < len(b); at += 8 {
		binary.BigEndian.PutUint64(b[at:], request+uint64(number*blockLength+at)*0x9e3779b97f4a7c15)
	}
	return b
}

// answer writes what a request asks for.
func answer(to io.Writer, request uint64) error {
	if request&bulkRequest == 0 {
		_, err := to.Write(binary.BigEndian.AppendUint64(nil, request))
		return err
	}
	for number := range bulkBlocks {
		if _, err := to.Write(block(request, number)); err != nil {
			return err
		}
	}
	return nil
}

// readBlocks reads blocks of a request, from one number to before another.
func readBlocks(from io.Reader, request uint64, number, end int) error {
	b := make([]byte, blockLength)
	for ; number < end; number++ {
		if n, err := io.ReadFull(from, b); err != nil {
			return fmt.Errorf("no answer: %d bytes of block %d: %w", n, number, err)
		}
		if !bytes.Equal(b, block(request, number)) {
			return fmt.Errorf("block %d of the answer: %w", number, errOtherBytes)
		}
	}
	return nil
}

// errOtherBytes indicates bytes that are not those of the answer.
var errOtherBytes = errors.New("not the bytes that were asked for")
