//go:build broken

package tiny

import "testing"

func TestBroken(t *testing.T) { t.Fatal("this is how a broken test looks") }
