package ads

import (
	"slices"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// state logs what of a proxy's settings cannot be served as it stands, once for as long as
// that is so. The server's mutex guards it.
func (st *session) state(problems []*isthmusv1.Problem) {
	if len(problems) == 0 && len(st.stated) == 0 {
		return
	}
	var stated []string
	for _, p := range problems {
		stated = append(stated, p.GetText())
		if !slices.Contains(st.stated, p.GetText()) {
			st.log.Warn("a setting of the proxy cannot be served as it stands", "code", p.GetCode(), "problem", p.GetText(), "fix", p.GetFix())
		}
	}
	st.stated = stated
}
