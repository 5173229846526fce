package definition

import "bytes"

// guardYAML estimates, before the library parses, how deep a YAML text nests:
// by the indentation and dashes of its lines and by its brackets; and how many
// values it has, by its lines and by the commas in brackets. It need not be
// exact on what people do not write: the walk over the parsed nodes is, and the
// library has a bound of its own (10,000 deep).
func guardYAML(data []byte) *fault {
	var g yamlGuard
	line := 0
	for rest := data; len(rest) > 0; {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte("\n"))
		line++
		g.line(text)
		if g.flow+len(g.indents) > maxDepth {
			return tooDeep(line)
		}
		if g.values > maxNodes {
			return tooMany(line)
		}
	}
	return nil
}

type yamlGuard struct {
	// indents are the columns at which the open blocks begin.
	indents []int
	// flow is the number of open brackets.
	flow int
	// values that the text has at least.
	values int
	// quote is the quote of an open quoted text, or 0.
	quote byte
}

func (g *yamlGuard) line(text []byte) {
	i := 0
	if g.flow == 0 && g.quote == 0 {
		if i = g.block(text); i < 0 {
			return
		}
	}
	g.scan(text[i:])
}

// block opens and closes blocks by what a line begins with and returns where
// its first value or key stands, or -1 for a line without any.
func (g *yamlGuard) block(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\r':
			continue
		case '#':
			return -1
		}
		for len(g.indents) > 0 && g.indents[len(g.indents)-1] >= i {
			g.indents = g.indents[:len(g.indents)-1]
		}
		g.indents = append(g.indents, i)
		g.values++
		// "- - - x" opens one block per dash; so do "? ? x" and ": : x".
		opens := bytes.IndexByte([]byte("-?:"), text[i]) >= 0 && (i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\t')
		if !opens || len(g.indents) > maxDepth {
			return i
		}
	}
	return -1
}

// scan follows brackets and quotes. Outside brackets only a value that begins
// with a bracket or quote opens one: in a plain text they are characters.
func (g *yamlGuard) scan(text []byte) {
	starts := true
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case g.quote == '"' && c == '\\', g.quote == '\'' && c == '\'' && i+1 < len(text) && text[i+1] == '\'':
			i++
		case g.quote != 0:
			if c == g.quote {
				g.quote = 0
			}
		case c == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t'):
			return
		case (c == '"' || c == '\'') && starts:
			g.quote = c
		case c == '[' || c == '{':
			if g.flow > 0 || starts {
				g.flow++
			}
		case (c == ']' || c == '}') && g.flow > 0:
			g.flow--
		case c == ',' && g.flow > 0:
			g.values++
		}
		if g.flow > maxDepth {
			return
		}
		blank := c == ' ' || c == '\t'
		begins := c == ':' || c == '-' || c == '?' || (g.flow > 0 && (c == ',' || c == '[' || c == '{'))
		starts = begins || (blank && starts)
	}
}
