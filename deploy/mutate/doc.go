// Command mutate breaks the rules of the most important packages one at a time
// and checks that each break fails a test of the package that owns the rule.
//
// A mutant is one small change of one file: a comparison turned, a condition
// dropped, two levels swapped, a statement removed. All mutants of a package are
// compiled at once, each in a copy of its function, and tried one by one against
// the package's own tests; what does not compile is no mutant. Files reach the
// compiler through an overlay, so the work tree is never touched. A mutant that
// no test notices, three times over, is printed with its difference, and the
// command exits 1; tests that do not come to an end count as failed.
//
// Some changes change nothing that can be observed. They stand in
// equivalent.txt, each with the reason; an entry that meets no mutant any more is an
// error too, so the list never outlives the code.
//
// Which files are mutated stands in targets.go and nowhere else.
package main
