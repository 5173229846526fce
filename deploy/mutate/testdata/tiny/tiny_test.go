package tiny

import "testing"

func TestWatched(t *testing.T) {
	for n, want := range map[int]bool{-1: false, 0: false, 1: true, 9: true, 10: false, 11: false} {
		if Watched(n) != want {
			t.Errorf("Watched(%d) = %v", n, !want)
		}
	}
}

func TestNeglected(t *testing.T) {
	if Neglected(0) != 1 {
		t.Error("Neglected(0) is not 1")
	}
}

func TestSame(t *testing.T) {
	if Same(3) != 3 {
		t.Error("Same(3) is not 3")
	}
}

func TestBounded(t *testing.T) {
	for n, want := range map[int]int{0: 0, 2: 2, 3: 3, 4: 3} {
		if got := Bounded(n, 9); got != want {
			t.Errorf("Bounded(%d) = %d", n, got)
		}
	}
}

func TestAdd(t *testing.T) {
	if got := (list{}).Add(9, 1, 2, 4); got != 7 {
		t.Errorf("Add: %d", got)
	}
}
