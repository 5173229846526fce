// Package definition reads what people write about a datacenter: config
// entries and service definitions in HCL, JSON and YAML.
//
// The promises:
//   - It is pure: bytes in, values and problems out. Equal files give equal
//     results in an equal order. It never reads a clock, a file or a network.
//   - Nothing is guessed and nothing is dropped in silence. What it does not
//     know is an error at the file and line where it stands; what it knows and
//     cannot serve is a warning. All problems are reported at once.
//   - A value that comes out obeys the rules of its kind (the Validate
//     functions beside the model). A value with a problem does not come out.
//   - Hostile input costs a bounded amount: size, depth, aliases and numbers
//     are limited before a library sees them, and a library's panic is a
//     problem of its file.
//
// The path of a file: a front end (HCL, JSON or YAML, by extension) turns the
// bytes into one kind of tree with places, one decoder turns the tree into the
// model, and [Parse] joins the files of a datacenter: it expands sidecars,
// gives each instance its node and finds what is defined twice.
package definition
