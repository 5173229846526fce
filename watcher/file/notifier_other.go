//go:build !linux

package file

import "errors"

// newNotifier has no kernel's help here; the source looks again and again.
func newNotifier(string) (notifier, error) { return nil, errors.ErrUnsupported }
