package bus

import isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"

// Machine is a pure core that [Drive] applies transactions to. It keeps no
// clock and starts nothing; what it became is asked of it by whoever emits.
type Machine interface {
	// Apply takes one transaction. It is called from one goroutine at a time and
	// must not write to the transaction.
	Apply(*isthmusv1.Transaction)
}

// MachineFunc is a function as a [Machine].
type MachineFunc func(*isthmusv1.Transaction)

// Apply calls the function.
func (f MachineFunc) Apply(t *isthmusv1.Transaction) { f(t) }
