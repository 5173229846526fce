package resolver_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/services/resolver"
)

// catalogKinds are the kinds of values of a catalog.
var catalogKinds = []isthmusv1.Kind{
	isthmusv1.KindNode, isthmusv1.KindInstance, isthmusv1.KindConfig, isthmusv1.KindRoots,
	isthmusv1.KindMeshFacts, isthmusv1.KindPreparedQuery, "of-the-future",
}

// packValue appends a change as a fuzz target holds it: a byte of kind and
// datacenter, two of length, and the value.
func packValue(packed []byte, kind isthmusv1.Kind, datacenter int, value []byte) []byte {
	packed = append(packed, byte(slices.Index(catalogKinds, kind)+datacenter*len(catalogKinds)))
	packed = binary.BigEndian.AppendUint16(packed, uint16(len(value)))
	return append(packed, value...)
}

// unpackValues reads changes by datacenter, with the keys that their values
// have. legal is false if a value breaks the rules on values: no watcher would
// have published it.
func unpackValues(packed []byte) (changes map[string][]isthmusv1.Change, legal bool) {
	changes, legal = map[string][]isthmusv1.Change{}, true
	for len(packed) >= 3 {
		kind := catalogKinds[int(packed[0])%len(catalogKinds)]
		dc := datacenters[int(packed[0])/len(catalogKinds)%len(datacenters)]
		length := min(int(binary.BigEndian.Uint16(packed[1:])), len(packed)-3)
		text := packed[3 : 3+length]
		packed = packed[3+length:]
		value := isthmusv1.NewValue(kind)
		if value != nil && proto.Unmarshal(text, value) != nil {
			continue
		}
		if v, ok := value.(interface {
			Validate() isthmusv1.Violations
		}); ok && len(v.Validate()) > 0 {
			legal = false
		}
		key := keyOfValue(kind, value)
		changes[dc] = slices.DeleteFunc(changes[dc], func(c isthmusv1.Change) bool { return c.Key == key })
		changes[dc] = append(changes[dc], isthmusv1.Change{Key: key, Value: value, Bytes: text})
	}
	return changes, legal
}

func keyOfValue(kind isthmusv1.Kind, value proto.Message) isthmusv1.Key {
	switch v := value.(type) {
	case *isthmusv1.Node:
		return isthmusv1.NodeKey(v.GetPartition(), v.GetName())
	case *isthmusv1.ServiceInstance:
		return isthmusv1.InstanceKey(v.GetPartition(), v.GetNode(), v.GetNamespace(), v.GetId())
	case *isthmusv1.ConfigEntry:
		return isthmusv1.ConfigKey(v.GetKind(), v.GetPartition(), v.GetNamespace(), v.GetName())
	case *isthmusv1.PreparedQuery:
		return isthmusv1.PreparedQueryKey(v.GetName())
	}
	return isthmusv1.NewKey(kind)
}

// FuzzMachine: whatever the values of the catalogs are, the resolver makes
// routes of them; and of legal ones it makes the same routes whether they come
// one after the other or at once, with every reference in its place.
func FuzzMachine(f *testing.F) {
	example := rapid.Custom(func(t *rapid.T) []byte {
		var packed []byte
		for dc, name := range datacenters {
			_, s := randomHistories(t)
			for key, value := range s[name] {
				packed = packValue(packed, key.Kind, dc, marshal(t, value))
			}
		}
		return packed
	})
	for seed := range 40 {
		f.Add(example.Example(seed))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		changes, legal := unpackValues(packed)
		incremental, whole := resolver.New("dc1"), resolver.New("dc1")
		for _, dc := range datacenters {
			tx := isthmusv1.Transaction{
				Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Sequence: 1, Reset: true,
			}
			atOnce, empty := tx, tx
			atOnce.Changes = changes[dc]
			whole.Apply(&atOnce)
			incremental.Apply(&empty)
		}
		for _, dc := range datacenters {
			for i, change := range changes[dc] {
				incremental.Apply(&isthmusv1.Transaction{
					Stream: isthmusv1.StreamName(isthmusv1.ClassCatalog, dc), Incarnation: "first", Sequence: uint64(i + 2),
					Changes: []isthmusv1.Change{change},
				})
				incremental.Ready()
			}
		}
		want, got := collect(t, whole.All()), collect(t, incremental.All())
		if !legal {
			return
		}
		if diff := diffOutputs(want, got); diff != "" {
			t.Fatalf("one after the other is not what at once gives (-at once +one by one):\n%s", diff)
		}
		referencesHold(t, whole)
	})
}
