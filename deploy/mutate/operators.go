package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
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
	found     []mutant

	function    string
	returnsBool bool
}

// offset is where a position is in the file's bytes.
func (w *walker) offset(at token.Pos) int { return w.positions.Position(at).Offset }

// text is what a node says.
func (w *walker) text(node ast.Node) string {
	return string(w.source[w.offset(node.Pos()):w.offset(node.End())])
}

func (w *walker) add(operator string, at token.Pos, edits ...edit) {
	w.found = append(w.found, mutant{
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

// visit adds the mutants that a node gives rise to.
func (w *walker) visit(node ast.Node) {
	switch node := node.(type) {
	case *ast.BinaryExpr:
		w.operatorAt(node.OpPos, node.Op)
		if neutral, ok := map[token.Token]string{token.LAND: "true", token.LOR: "false"}[node.Op]; ok {
			w.replace("dropped side", node.X, neutral)
			w.replace("dropped side", node.Y, neutral)
		}
	case *ast.UnaryExpr:
		if node.Op == token.NOT {
			w.replace("dropped negation", node, w.text(node.X))
		}
	case *ast.IfStmt:
		w.replace("condition always false", node.Cond, "("+w.text(node.Cond)+") && false")
		w.replace("condition always true", node.Cond, "("+w.text(node.Cond)+") || true")
	case *ast.IncDecStmt:
		w.operatorAt(node.TokPos, node.Tok)
	case *ast.AssignStmt:
		w.operatorAt(node.TokPos, node.Tok)
	case *ast.BasicLit:
		if n, err := strconv.ParseInt(node.Value, 0, 64); err == nil && node.Kind == token.INT {
			w.replace("off by one", node, strconv.FormatInt(n+1, 10))
		}
	case *ast.ReturnStmt:
		w.returned(node)
	case *ast.CallExpr:
		w.call(node)
	case *ast.CompositeLit:
		for i := range len(node.Elts) - 1 {
			if _, keyed := node.Elts[i].(*ast.KeyValueExpr); !keyed {
				w.swap(node.Elts[i], node.Elts[i+1])
			}
		}
	case *ast.BlockStmt:
		w.statements(node.List)
	case *ast.CaseClause:
		w.replace("removed case", node, "")
		for i, value := range node.List {
			if len(node.List) > 1 {
				w.removeElement(node.List, i, value)
			}
		}
		w.statements(node.Body)
	case *ast.CommClause:
		w.statements(node.Body)
	}
}

// returned turns a returned truth around.
func (w *walker) returned(node *ast.ReturnStmt) {
	for _, result := range node.Results {
		if name, ok := result.(*ast.Ident); ok {
			if other, ok := map[string]string{"true": "false", "false": "true"}[name.Name]; ok {
				w.replace("opposite result", result, other)
				return
			}
		}
	}
	if w.returnsBool && len(node.Results) == 1 {
		w.replace("opposite result", node.Results[0], "!("+w.text(node.Results[0])+")")
	}
}

// call swaps arguments whose order matters, and min with max.
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
func (w *walker) removeElement(list []ast.Expr, i int, value ast.Expr) {
	start, end := value.Pos(), value.End()
	if i+1 < len(list) {
		end = list[i+1].Pos()
	} else {
		start = list[i-1].End()
	}
	w.add("removed value", value.Pos(), edit{w.offset(start), w.offset(end), ""})
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
