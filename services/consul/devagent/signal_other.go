//go:build !unix

package devagent

import "errors"

// halt is not there on this system.
func (p *process) halt() error { return errors.ErrUnsupported }

// proceed is not there on this system.
func (p *process) proceed() error { return errors.ErrUnsupported }
