package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// replacements are the operators that each operator is replaced by: for a
// comparison its opposite and its neighbour at the bound.
var replacements = map[token.Token][]token.Token{
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LSS: {token.LEQ, token.GEQ}, token.LEQ: {token.LSS, token.GTR},
	token.GTR: {token.GEQ, token.LEQ}, token.GEQ: {token.GTR, token.LSS},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD: {token.SUB}, token.SUB: {token.ADD},
	token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.MUL},
	token.SHL: {token.SHR}, token.SHR: {token.SHL},
	token.AND: {token.OR}, token.OR: {token.AND}, token.XOR: {token.AND},
	token.ADD_ASSIGN: {token.SUB_ASSIGN}, token.SUB_ASSIGN: {token.ADD_ASSIGN},
	token.INC: {token.DEC}, token.DEC: {token.INC},
}

// ordered are calls whose arguments stand in an order that means something.
var ordered = []string{"Or", "Compare", "firstMode"}

// walker collects the mutants of a file.
type walker struct {
	source    []byte
	positions *token.FileSet
	file      string
	found     *[]mutant

	// function is the name of the declared function, results are those of the
	// innermost function, one type for each.
	function string
	results  []ast.Expr
}

// offset is where a position is in the file's bytes.
func (w *walker) offset(at token.Pos) int { return w.positions.Position(at).Offset }

// text is what a node says.
func (w *walker) text(node ast.Node) string {
	return string(w.source[w.offset(node.Pos()):w.offset(node.End())])
}

func (w *walker) add(operator string, at token.Pos, edits ...edit) {
	*w.found = append(*w.found, mutant{
		file: w.file, line: w.positions.Position(at).Line, function: w.function, operator: operator, edits: edits,
	})
}

// replace adds the mutant that says text instead of what the node says.
func (w *walker) replace(operator string, node ast.Node, text string) {
	w.add(operator, node.Pos(), edit{w.offset(node.Pos()), w.offset(node.End()), text})
}

// operatorAt adds a mutant for each replacement of the operator at a position.
func (w *walker) operatorAt(at token.Pos, present token.Token) {
	for _, other := range replacements[present] {
		start := w.offset(at)
		w.add("operator", at, edit{start, start + len(present.String()), other.String()})
	}
}

// within is the walker for the body of a function.
func (w *walker) within(function *ast.FuncType) *walker {
	inner := *w
	inner.results = nil
	if function.Results != nil {
		for _, field := range function.Results.List {
			for range max(1, len(field.Names)) {
				inner.results = append(inner.results, field.Type)
			}
		}
	}
	return &inner
}

// Visit adds the mutants that a node gives rise to. A condition turned around
// is not among them: it is caught by whatever catches the condition that is
// always true or always false.
func (w *walker) Visit(node ast.Node) ast.Visitor {
	switch node := node.(type) {
	case *ast.FuncDecl:
		return w.within(node.Type)
	case *ast.FuncLit:
		return w.within(node.Type)
	case *ast.BinaryExpr:
		w.operatorAt(node.OpPos, node.Op)
		if neutral, ok := map[token.Token]string{token.LAND: "true", token.LOR: "false"}[node.Op]; ok {
			w.replace("dropped side", node.X, neutral)
			w.replace("dropped side", node.Y, neutral)
		}
		w.strings(node.X, node.Y)
	case *ast.UnaryExpr:
		if node.Op == token.NOT {
			w.replace("dropped negation", node, w.text(node.X))
		}
	case *ast.IfStmt:
		w.replace("condition always false", node.Cond, "("+w.text(node.Cond)+") && false")
		w.replace("condition always true", node.Cond, "("+w.text(node.Cond)+") || true")
	case *ast.ForStmt:
		w.notAtAll(node.Body)
	case *ast.RangeStmt:
		w.notAtAll(node.Body)
	case *ast.BranchStmt:
		if other, ok := map[token.Token]string{token.BREAK: "continue", token.CONTINUE: "break"}[node.Tok]; ok && node.Label == nil {
			w.replace("break and continue", node, other)
		}
	case *ast.IncDecStmt:
		w.operatorAt(node.TokPos, node.Tok)
	case *ast.AssignStmt:
		w.operatorAt(node.TokPos, node.Tok)
		w.strings(node.Rhs...)
	case *ast.ValueSpec:
		w.strings(node.Values...)
	case *ast.BasicLit:
		if n, err := strconv.ParseInt(node.Value, 0, 64); err == nil && node.Kind == token.INT {
			w.replace("off by one", node, strconv.FormatInt(n+1, 10))
			if n > 0 {
				w.replace("off by one", node, strconv.FormatInt(n-1, 10))
			}
		}
	case *ast.ReturnStmt:
		w.returned(node)
	case *ast.CallExpr:
		w.call(node)
	case *ast.CompositeLit:
		w.literal(node)
	case *ast.BlockStmt:
		w.statements(node.List)
	case *ast.SwitchStmt:
		w.cases(node.Body)
	case *ast.TypeSwitchStmt:
		w.cases(node.Body)
	case *ast.CaseClause:
		w.statements(node.Body)
		w.strings(node.List...)
	case *ast.CommClause:
		w.statements(node.Body)
	}
	return w
}

// strings changes each of the expressions that is a text.
func (w *walker) strings(list ...ast.Expr) {
	for _, node := range list {
		text, ok := node.(*ast.BasicLit)
		if !ok || text.Kind != token.STRING {
			continue
		}
		other := `""`
		if text.Value == other {
			other = `"mutant"`
		}
		w.replace("other text", node, other)
	}
}

// notAtAll ends a loop where it begins.
func (w *walker) notAtAll(body *ast.BlockStmt) {
	after := w.offset(body.Lbrace) + 1
	w.add("no loop", body.Lbrace, edit{after, after, " break;"})
}

// cases removes each case of a switch, and each value of a case. A case without
// statements does nothing but keep the default away.
func (w *walker) cases(body *ast.BlockStmt) {
	hasDefault := slices.ContainsFunc(body.List, func(s ast.Stmt) bool { return s.(*ast.CaseClause).List == nil })
	for _, statement := range body.List {
		node := statement.(*ast.CaseClause)
		if len(node.Body) == 0 && !hasDefault {
			continue
		}
		w.replace("removed case", node, "")
		if len(node.List) > 1 {
			for i := range node.List {
				w.removeElement("removed value", node.List, i)
			}
		}
	}
}

// literal removes each element of a composite literal, and swaps neighbours.
func (w *walker) literal(node *ast.CompositeLit) {
	for i, element := range node.Elts {
		w.removeElement("removed element", node.Elts, i)
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			w.strings(pair.Value)
			continue
		}
		w.strings(element)
		if i+1 < len(node.Elts) {
			w.swap(node.Elts[i], node.Elts[i+1])
		}
	}
}

// returned turns a returned truth around, and makes nothing of any other result.
func (w *walker) returned(node *ast.ReturnStmt) {
	w.strings(node.Results...)
	if len(node.Results) != len(w.results) {
		return
	}
	for i, result := range node.Results {
		of, said := w.text(w.results[i]), w.text(result)
		switch {
		case said == "true":
			w.replace("opposite result", result, "false")
		case said == "false":
			w.replace("opposite result", result, "true")
		case of == "bool":
			w.replace("opposite result", result, "!("+said+")")
		case said != "nil" && said != "0" && said != `""` && said != of+"{}":
			w.replace("zero result", result, "func("+of+") (zero "+of+") { return }("+said+")")
		}
	}
}

// call swaps arguments whose order matters, and min with max. It leaves
// arguments of cmp.Or out, and takes upper case for another letter.
func (w *walker) call(node *ast.CallExpr) {
	function := node.Fun
	if selector, ok := function.(*ast.SelectorExpr); ok {
		function = selector.Sel
	}
	name, ok := function.(*ast.Ident)
	if !ok {
		return
	}
	if other, ok := map[string]string{"min": "max", "max": "min"}[name.Name]; ok {
		w.replace("min and max", name, other)
	}
	switch name.Name {
	case "Or":
		for i := range node.Args {
			w.removeElement("removed argument", node.Args, i)
		}
	case "ToLower":
		w.replace("dropped folding", node, "("+w.text(node.Args[0])+")")
	case "EqualFold":
		w.replace("dropped folding", node, "("+w.text(node.Args[0])+" == "+w.text(node.Args[1])+")")
	}
	if slices.Contains(ordered, name.Name) {
		for i := range len(node.Args) - 1 {
			w.swap(node.Args[i], node.Args[i+1])
		}
	}
}

// swap exchanges two neighbours, unless they say the same.
func (w *walker) swap(a, b ast.Expr) {
	if w.text(a) == w.text(b) {
		return
	}
	w.add("swapped order", a.Pos(),
		edit{w.offset(a.Pos()), w.offset(a.End()), w.text(b)},
		edit{w.offset(b.Pos()), w.offset(b.End()), w.text(a)})
}

// removeElement takes one value out of a list, with the comma beside it.
func (w *walker) removeElement(operator string, list []ast.Expr, i int) {
	start, end := w.offset(list[i].Pos()), w.offset(list[i].End())
	switch {
	case i+1 < len(list):
		end = w.offset(list[i+1].Pos())
	case i > 0:
		start = w.offset(list[i-1].End())
	default:
		rest := strings.TrimLeft(string(w.source[end:]), " \t\n")
		if strings.HasPrefix(rest, ",") {
			end = len(w.source) - len(rest) + 1
		}
	}
	w.add(operator, list[i].Pos(), edit{start, end, ""})
}

// statements removes each statement that can be left out.
func (w *walker) statements(list []ast.Stmt) {
	for _, statement := range list {
		switch statement := statement.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.BranchStmt, *ast.DeferStmt, *ast.SendStmt:
			w.replace("removed statement", statement, "")
		case *ast.AssignStmt:
			if statement.Tok != token.DEFINE {
				w.replace("removed statement", statement, "")
			}
		case *ast.ReturnStmt:
			if len(statement.Results) == 0 {
				w.replace("removed statement", statement, "")
			}
		}
	}
}
