// Package compare holds what two control planes serve to one Envoy against each other.
//
//	for _, d := range compare.Resources(ours, theirs, facts) {
//		fmt.Println(d.Type, d.Name, d.Field, d.Ours, d.Theirs, d.Intended)
//	}
//
// The promises:
//
//   - Whatever differs is listed, down to fields and types that nothing here knows,
//     unless one of the named [Rules] says that it carries no meaning for traffic.
//   - A difference that deploy/docs/differences.md has a row for names the row, where
//     resources and the [Facts] of routes tell it ([Rows]). What is left has an empty
//     one: it is of a row that they do not tell, or a bug of one of the two sides.
//   - No key and no certificate is in what is returned: of secrets it says only that
//     they are there.
//   - It is pure: equal input gives equal output, in one order.
//
// What it does not do: it does not judge whether two configurations that differ lead
// to the same traffic all the same.
package compare
