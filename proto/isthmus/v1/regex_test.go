package isthmusv1_test

import (
	"errors"
	"strings"
	"testing"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// TestCheckRegex: what an Envoy would refuse is refused. Each was shown to Envoy 1.40.
func TestCheckRegex(t *testing.T) {
	for _, good := range []string{
		"/a.*", "(?i)x", "(?U)a+", `a\z`, "(?<a>x)", `\Qa.b\E`, `\pL+`, `\p{Greek}`, `\P{^Lu}`, `\p{Any}`, `\\p{Letter}`,
		`.{1000}`, strings.Repeat("a", 3000), `(?:[a-z]{10}){100}`,
	} {
		if err := isthmusv1.CheckRegex(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"(", "a{1001}", `(?=a)`, `\p{Nobody}`, `a\C`, "[z-a]"} {
		if err := isthmusv1.CheckRegex(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, class := range []string{`\p{Letter}`, `x\P{^ASCII}`, `\p{LC}`, `\\\p{Cn}`} {
		if err := isthmusv1.CheckRegex(class); !errors.Is(err, isthmusv1.ErrRegexClass) {
			t.Errorf("%q: %v, want %v", class, err, isthmusv1.ErrRegexClass)
		}
	}
	for _, large := range []string{`\pL{1000}`, strings.Repeat("a", 20_000), strings.Repeat(".{1000}", 20)} {
		if err := isthmusv1.CheckRegex(large); !errors.Is(err, isthmusv1.ErrRegexSize) {
			t.Errorf("%.20q: %v, want %v", large, err, isthmusv1.ErrRegexSize)
		}
	}
}
