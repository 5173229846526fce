package main

import (
	"fmt"
	"strings"
)

// equivalents are the reviewed mutants that change nothing observable: the
// reason of each by its key.
type equivalents map[string]string

// keysOf names each mutant of a file so that it is found again when lines above
// it moved: by its function and its difference. Where several look alike each
// has a number too, so that a review of one never excuses another.
func keysOf(list []mutant, source []byte) []string {
	key := func(m mutant, number string) string {
		return strings.Join(strings.Fields(m.file+" "+m.function+" "+number), " ") + "\n" + m.diff(source)
	}
	alike := map[string]int{}
	for _, m := range list {
		alike[key(m, "")]++
	}
	seen := map[string]int{}
	keys := make([]string, 0, len(list))
	for _, m := range list {
		plain := key(m, "")
		if alike[plain] > 1 {
			seen[plain]++
			keys = append(keys, key(m, fmt.Sprintf("#%d", seen[plain])))
		} else {
			keys = append(keys, plain)
		}
	}
	return keys
}

// parseEquivalents reads entries, with empty lines between them and comments
// after "#":
//
//	path/of/file.go function #2
//	- the line as it is
//	+ the line as the mutant has it
//	= the reason
//
// The number stands only where several mutants of a function look alike. An
// entry without a reason is an error, and so is one that stands twice.
func parseEquivalents(name, text string) (equivalents, error) {
	entries := equivalents{}
	var key strings.Builder
	line := 0
	for content := range strings.Lines(text) {
		line++
		content = strings.TrimSpace(content)
		reason, last := strings.CutPrefix(content, "=")
		switch {
		case strings.HasPrefix(content, "#"), content == "" && key.Len() == 0:
		case content == "":
			return nil, fmt.Errorf("%s:%d: the entry above has no line `= reason`", name, line)
		case last:
			if strings.TrimSpace(reason) == "" || key.Len() == 0 {
				return nil, fmt.Errorf("%s:%d: a reason needs words, and an entry above it", name, line)
			}
			if _, twice := entries[key.String()]; twice {
				return nil, fmt.Errorf("%s:%d: this entry stands twice", name, line)
			}
			entries[key.String()] = strings.TrimSpace(reason)
			key.Reset()
		default:
			key.WriteString(content + "\n")
		}
	}
	if key.Len() > 0 {
		return nil, fmt.Errorf("%s:%d: the last entry has no line `= reason`", name, line)
	}
	return entries, nil
}
