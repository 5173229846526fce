// Package archtest checks that the repository is laid out as its design says:
// who may import whom, which package owns which library, which packages are
// pure, how long a file may be, and a few habits that no linter knows.
//
// The rules are values ([Layout]) and the checks take files ([Source]), so the
// same code that guards the repository is tried on planted violations. The
// repository's own table stands in archtest_test.go, to be read as a table.
//
// What it does not do: it looks at syntax only. A clock that reaches a pure
// package through an interface is beyond it.
package archtest
