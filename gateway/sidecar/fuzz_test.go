package sidecar

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
)

// FuzzSavedState: whatever a file holds, it is a state or it is refused; and
// what it says can be served without a crash.
func FuzzSavedState(f *testing.F) {
	web := proxyAt("n1", "web-proxy", "web")
	fd := feed{machine: NewMachine("web-proxy")}
	fd.apply(true, nil, web, inboundAt(inboundOf("deny", "allow web")))
	if _, err := fd.machine.View(); err != nil {
		f.Fatal(err)
	}
	text, err := encodeState(fd.machine, testTime)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, seed := range []string{
		"", "{}", "null", `{"values":[{}]}`, `{"values":[{"kind":"proxy","value":""}]}`,
		`{"values":[{"kind":"proxy","parts":["n","web-proxy"],"value":""}]}`,
		`{"values":[{"kind":"inbound","parts":["n","web-proxy"],"value":"CgA="}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		transaction, _, err := decodeState(text)
		if err != nil {
			if !errors.Is(err, errBadState) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		m := NewMachine("web-proxy")
		m.Apply(transaction)
		view, err := m.View()
		if err != nil {
			return
		}
		newBuilder(newCounterTable(), nil).build(view)
		again, err := encodeState(m, testTime)
		if errors.Is(err, proto.Error) {
			return // A string that is not UTF-8: it cannot stand in a stream either.
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decodeState(again); err != nil {
			t.Errorf("what was saved again is refused: %v", err)
		}
	})
}
