package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// errBadState indicates a saved state that cannot be read.
var errBadState = errors.New("it is not a saved state; remove it")

// savedState is the last good state as it stands in its file: the values that
// the view was made of. It holds no key.
type savedState struct {
	Saved       time.Time    `json:"saved"`
	Stream      string       `json:"stream"`
	Incarnation string       `json:"incarnation"`
	Sequence    uint64       `json:"sequence"`
	Basis       []byte       `json:"basis,omitempty"`
	Values      []savedValue `json:"values"`
}

type savedValue struct {
	Kind  isthmusv1.Kind `json:"kind"`
	Parts []string       `json:"parts"`
	Value []byte         `json:"value"`
}

// save writes what the machine's view was made of. A state that cannot be saved
// is served all the same.
func (s *Sidecar) save(ctx context.Context) {
	if s.cfg.StateFile == "" {
		return
	}
	text, err := encodeState(s.machine, time.Now())
	if err == nil {
		err = writeState(s.cfg.StateFile, text)
	}
	if err != nil {
		s.log.WarnContext(ctx, "the state was not saved", "file", s.cfg.StateFile, "err", err)
	}
}

// restore serves what the file holds, until the bus says something newer.
func (s *Sidecar) restore() error {
	if s.cfg.StateFile == "" {
		return nil
	}
	text, err := os.ReadFile(s.cfg.StateFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	t, saved, err := decodeState(text)
	if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.StateFile, err)
	}
	restored := NewMachine(s.cfg.Proxy)
	restored.Apply(t)
	view, err := restored.View()
	if err != nil {
		return fmt.Errorf("%s: %w", s.cfg.StateFile, err)
	}
	s.log.Info("serving the saved state until the routes are read", "file", s.cfg.StateFile,
		"saved", saved, "age", time.Since(saved).Round(time.Second))
	s.saved.Store(&saved)
	s.serve(view)
	return nil
}

// SavedAge is how old the state that is served is, if it is the saved one, else
// 0.
func (s *Sidecar) SavedAge(now time.Time) time.Duration {
	saved := s.saved.Load()
	if saved == nil {
		return 0
	}
	return max(now.Sub(*saved), time.Nanosecond)
}

func encodeState(m *Machine, now time.Time) ([]byte, error) {
	routes, basis := m.Position()
	saved := savedState{
		Saved: now.UTC(), Stream: routes.GetStream(), Incarnation: routes.GetIncarnation(), Sequence: routes.GetSequence(),
	}
	var err error
	if saved.Basis, err = isthmusv1.Marshal(basis); err != nil {
		return nil, err
	}
	keys, values := m.usedValues()
	for i, key := range keys {
		value, err := isthmusv1.Marshal(values[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		saved.Values = append(saved.Values, savedValue{key.Kind, key.Parts(), value})
	}
	return json.Marshal(saved)
}

func decodeState(text []byte) (*isthmusv1.Transaction, time.Time, error) {
	var saved savedState
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", errBadState, err)
	}
	basis := new(isthmusv1.Basis)
	if err := proto.Unmarshal(saved.Basis, basis); err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: basis: %w", errBadState, err)
	}
	t := &isthmusv1.Transaction{
		Stream: saved.Stream, Incarnation: saved.Incarnation, Sequence: saved.Sequence, Reset: true,
		End: &isthmusv1.TransactionEnd{Basis: basis},
	}
	for _, v := range saved.Values {
		key, value := isthmusv1.NewKey(v.Kind, v.Parts...), isthmusv1.NewValue(v.Kind)
		if value == nil {
			continue // A newer version saved it.
		}
		if err := proto.Unmarshal(v.Value, value); err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: %s: %w", errBadState, key, err)
		}
		t.Changes = append(t.Changes, isthmusv1.Change{Key: key, Value: value, Bytes: v.Value})
	}
	return t, saved.Saved, nil
}

// writeState replaces the file, whole or not at all.
func writeState(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
