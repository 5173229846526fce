package ads

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// content is a hash of a set of resources, whatever their order: it costs the same to
// add or take away one of many as one of few.
type content [2]uint64

func contentOf(t xdsnode.Type, name, version string) content {
	sum := sha256.Sum256([]byte(string(t) + "\x00" + name + "\x00" + version))
	return content{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

func (c content) plus(o content) content  { return content{c[0] + o[0], c[1] + o[1]} }
func (c content) minus(o content) content { return content{c[0] - o[0], c[1] - o[1]} }

// String is the version of the set; empty for none.
func (c content) String() string {
	if c == (content{}) {
		return ""
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c[0]), c[1]))[:24]
}
