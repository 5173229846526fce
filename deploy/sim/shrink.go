package sim

import "slices"

// shrinkRuns bounds how often a failing script is run to make it shorter.
const shrinkRuns = 200

// Shrink makes a failing script shorter as long as it goes on to fail, whatever
// the failure is then, and returns it with its error. It leaves out halves of
// the steps, then quarters, and so on.
func Shrink(script Script, err error, run func(Script) error) (Script, error) {
	runs := 0
	for size := len(script.Steps) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(script.Steps); {
			shorter := script
			shorter.Steps = slices.Delete(slices.Clone(script.Steps), from, from+size)
			if runs++; runs > shrinkRuns {
				return script, err
			}
			if failed := run(shorter); failed != nil {
				script, err = shorter, failed
				continue
			}
			from += size
		}
	}
	return script, err
}

// Add sums up results.
func (r *Result) Add(other Result) {
	r.Changes += other.Changes
	r.Events += other.Events
	r.Transactions += other.Transactions
	r.Bases += other.Bases
	r.Readings += other.Readings
	r.Replayed += other.Replayed
}
