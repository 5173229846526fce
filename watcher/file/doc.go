// Package file is a directory as a source of a datacenter's catalog.
//
//	<catalog>/<datacenter>/**/*.{hcl,json,yaml,yml}
//
// # What it promises
//
// Whole. The directory is read and parsed as a whole, and handed over only
// when no file has an error: a bad file keeps the last good state of all of
// them. All problems are stated at once, each with file, line, key and fix.
//
// At once. A change is read when its writer closes the file, or renames it
// into place; there is no delay that waits for quiet. A file that is in the
// middle of being written counts as it was before, so that half of it is never
// published, and a save in progress is not reported as a problem. One that has
// become empty is believed after a second: the kernel shows a truncation before
// it tells of it.
//
// Inside. Symbolic links are followed as long as they stay inside the catalog
// ([os.Root]); one that leads out is an error. Kubernetes' way of swapping a
// ..data link is understood.
//
// # What does not count
//
// Files of other extensions; files and directories whose name begins with a
// dot, # or ~ (hidden ones, swap, lock and backup files of editors). A name
// like web.hcl~ has another extension.
//
// Every directory beside the datacenter's is a known datacenter.
//
// # For commands
//
// [Load] reads a file, a datacenter's directory or a whole catalog once.
package file
