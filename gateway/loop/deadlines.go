//go:build linux

package loop

// deadlines are the times at which connections must have moved on, the next one
// first: a binary heap. An entry whose connection has ended, or has another
// deadline by now, means nothing when its time comes.
type deadlines []deadline

type deadline struct {
	at               int64
	slot, generation uint32
}

// add adds a deadline.
func (d *deadlines) add(entry deadline) {
	h := append(*d, entry)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].at <= h[i].at {
			break
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
	*d = h
}

// next is the first deadline; 0 when there is none.
func (d deadlines) next() int64 {
	if len(d) == 0 {
		return 0
	}
	return d[0].at
}

// pop removes the first deadline, if it is over.
func (d *deadlines) pop(now int64) (entry deadline, over bool) {
	h := *d
	if len(h) == 0 || h[0].at > now {
		return deadline{}, false
	}
	entry = h[0]
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(h) && h[child].at < h[least].at {
				least = child
			}
		}
		if least == i {
			break
		}
		h[least], h[i] = h[i], h[least]
		i = least
	}
	*d = h
	return entry, true
}
