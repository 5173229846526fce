package main

import (
	"context"
	"io"
	"time"
)
type chaosSettings struct {
	swaps, handovers, deaths int
	flap time.Duration
}
func (s chaosSettings) check() error { return nil }
func soakChaos(ctx context.Context, w *world, s chaosSettings, out io.Writer) ([]verdict, error) { return nil, nil }
