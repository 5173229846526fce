package resolver

import (
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// fixRegex is what to do about an expression that cannot be used.
const fixRegex = "write it in the syntax of RE2, and shorter"

// stateTokens states an entry that asks for JSON web tokens.
func stateTokens(in *isthmusv1.Inbound, i *isthmusv1.InboundIntention) {
	if in.AsksForTokens(i) {
		in.Problems = addProblem(in.Problems, unsupported(
			"%s asks for JSON web tokens, which is not supported; all its sources are denied", i.GetKey()))
	}
}

// statePermissions states what of permissions by request cannot be done as it is
// written: it lets nobody in who would not be let in.
func statePermissions(in *isthmusv1.Inbound, i *isthmusv1.InboundIntention) {
	if !isHTTP(in.GetProtocol()) {
		return // All of them deny, which is stated once.
	}
	for n, p := range i.GetPermissions() {
		if len(p.GetJwtJson()) > 0 {
			in.Problems = addProblem(in.Problems, unsupported(
				"%s asks for JSON web tokens in permission %d of %s, which is not supported; it denies",
				i.GetKey(), n+1, i.GetSource().Qualified()))
		}
		for _, expression := range append(headerRegexes(p.GetHeaders()), p.GetPathRegex()) {
			if err := unusable(expression); err != nil {
				in.Problems = addProblem(in.Problems, problemError(CodeBadRegex, fixRegex,
					"%s: in permission %d of %s, %q cannot be used (%v); it allows nothing, or denies whatever else it matches",
					i.GetKey(), n+1, i.GetSource().Qualified(), expression, err))
			}
		}
	}
}

// stateMatch states a route that no proxy can take, and that is left out.
func (c *compiler) stateMatch(router *isthmusv1.ServiceRef, number int, m *isthmusv1.ServiceRouteMatch) {
	expressions := append(headerRegexes(m.GetHeaders()), m.GetPathRegex())
	for _, q := range m.GetQueryParams() {
		expressions = append(expressions, q.GetRegex())
	}
	for _, expression := range expressions {
		if err := unusable(expression); err != nil {
			c.state(problemError(CodeBadRegex, fixRegex, "service-router/%s: route %d is left out: %q cannot be used (%v)",
				router.Qualified(), number, expression, err))
		}
	}
}

func headerRegexes(headers []*isthmusv1.HeaderMatch) []string {
	var out []string
	for _, h := range headers {
		out = append(out, h.GetRegex())
	}
	return out
}

// unusable is why an expression cannot be used; nil: it can, or there is none.
func unusable(expression string) error {
	if expression == "" {
		return nil
	}
	return isthmusv1.CheckRegex(expression)
}
