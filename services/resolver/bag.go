package resolver

import (
	"iter"
	"slices"
)

// fewMembers is how many members a bag keeps in a slice before it turns to a
// map. Nearly all bags stay small, and a slice of a few costs a tenth of a map.
const fewMembers = 16

// bag is a set without an order. Whoever ranges over it must not let the order
// reach a result.
type bag[T comparable] struct {
	few  []T
	many map[T]struct{}
}

func (b *bag[T]) add(v T) {
	switch {
	case b.many != nil:
		b.many[v] = struct{}{}
	case slices.Contains(b.few, v):
	case len(b.few) < fewMembers:
		b.few = append(b.few, v)
	default:
		b.many = make(map[T]struct{}, 2*fewMembers)
		for _, w := range b.few {
			b.many[w] = struct{}{}
		}
		b.many[v] = struct{}{}
		b.few = nil
	}
}

func (b *bag[T]) remove(v T) {
	if b.many != nil {
		delete(b.many, v)
		return
	}
	if i := slices.Index(b.few, v); i >= 0 {
		last := len(b.few) - 1
		b.few[i] = b.few[last]
		clear(b.few[last:])
		b.few = b.few[:last]
	}
}

func (b *bag[T]) size() int { return len(b.few) + len(b.many) }

func (b *bag[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range b.few {
			if !yield(v) {
				return
			}
		}
		for v := range b.many {
			if !yield(v) {
				return
			}
		}
	}
}
