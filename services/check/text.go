package check

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// marks are the statuses as text shows them.
var marks = map[Status]string{Pass: "√", Warn: "!", Fail: "×"}

// WriteText writes findings for people: numbered, what is to be done below each,
// and a line that sums up.
func WriteText(w io.Writer, findings []Finding) {
	wide := len(fmt.Sprint(len(findings)))
	for i, f := range findings {
		fmt.Fprintf(w, "%*d %s %s %s, %s: %s\n", wide, i+1, marks[f.Status], f.Code, cmp.Or(f.Datacenter, "all"), f.Subject, f.Found)
		if f.Fix != "" {
			fmt.Fprintf(w, "%s   to do: %s\n", strings.Repeat(" ", wide), f.Fix)
		}
	}
	from := ""
	if len(findings) > 0 && findings[0].From != "" {
		from = ", judged from " + findings[0].From
	}
	fmt.Fprintf(w, "%s: %d passed, %d warned, %d failed%s\n",
		count(len(findings), "check"), Count(findings, Pass), Count(findings, Warn), Count(findings, Fail), from)
}
