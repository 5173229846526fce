package isthmusv1

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
	"unicode"
)

// Why an expression cannot be used.
var (
	// ErrRegexClass indicates a class of characters that Go knows and Envoy does not.
	ErrRegexClass = errors.New("this class of characters is not one of RE2's")
	// ErrRegexSize indicates an expression that is larger than Envoy takes.
	ErrRegexSize = errors.New("the expression is too large")
)

// largestRegex is how large a program an expression may become, counted with room to
// spare: Envoy's RE2 takes about 170,000 instructions.
const largestRegex = 100_000

// CheckRegex returns why an expression cannot be used, as Envoy (RE2) and Go both read
// it; nil when it can. It is parsed and not compiled: only that makes a repetition as
// large as it says.
func CheckRegex(expression string) error {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return err
	}
	if class := strangeClass(expression); class != "" {
		return fmt.Errorf("%s: %w", class, ErrRegexClass)
	}
	if regexSize(parsed) > largestRegex {
		return ErrRegexSize
	}
	return nil
}

// strangeClass finds a \p{…} that is neither a category nor a script of Unicode: Go 1.25
// and later know more, by names that Envoy refuses.
func strangeClass(expression string) string {
	for i := 0; i < len(expression)-1; i++ {
		if expression[i] != '\\' {
			continue
		}
		i++
		if expression[i] != 'p' && expression[i] != 'P' {
			continue
		}
		name, _, ok := strings.Cut(strings.TrimPrefix(expression[i+1:], "{"), "}")
		if !ok || expression[i+1] != '{' {
			continue // One letter, which was parsed.
		}
		name = strings.TrimPrefix(name, "^")
		if unicode.Scripts[name] == nil && (unicode.Categories[name] == nil || name == "Cn" || name == "LC") && name != "Any" {
			return `\` + expression[i:i+1] + "{" + name + "}"
		}
	}
	return ""
}

// Sizes of programs, in instructions and at most: of a range of characters, and of a
// letter, which may stand for itself in two cases.
const (
	rangeSize  = 12
	letterSize = 8
)

// regexSize is how many instructions a program has at most, and no more than one above
// the largest.
func regexSize(r *syntax.Regexp) int {
	size := 2
	switch r.Op {
	case syntax.OpLiteral:
		size += letterSize * len(r.Rune)
	case syntax.OpCharClass:
		size += rangeSize * len(r.Rune) / 2
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		size += rangeSize
	}
	for _, sub := range r.Sub {
		size += regexSize(sub)
	}
	if r.Op == syntax.OpRepeat {
		size *= max(r.Min, r.Max, 1)
	}
	return min(size, largestRegex+1)
}
