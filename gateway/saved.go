package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// savedVersion is the version of the file's form.
const savedVersion = 1

// savedName is the name of the file in the state directory.
const savedName = "gateway-table.json"

// saved is a table in a file: a header and the values of the stream that it was
// made of, so that the same machine makes the same table of them.
type saved struct {
	Version    int          `json:"version"`
	Datacenter string       `json:"datacenter"`
	Saved      time.Time    `json:"saved"`
	Stream     string       `json:"stream"`
	Position   []byte       `json:"position"`
	Basis      []byte       `json:"basis,omitempty"`
	Values     []savedValue `json:"values"`
}

type savedValue struct {
	Kind  isthmusv1.Kind `json:"kind"`
	Parts []string       `json:"parts,omitempty"`
	Value []byte         `json:"value"`
}

// save writes the feed's present table into the directory. The file is whole or
// as it was: it is written beside, synced and renamed. Its first line is the
// SHA-256 of the rest.
func (f *Feed) save(directory, datacenter string, now time.Time) error {
	t, values := f.values()
	s := saved{Version: savedVersion, Datacenter: strings.ToLower(datacenter), Saved: now.UTC(), Stream: t.Routes.GetStream()}
	var err error
	if s.Position, err = isthmusv1.Marshal(t.Routes); err != nil {
		return fmt.Errorf("gateway: save the table: %w", err)
	}
	if s.Basis, err = isthmusv1.Marshal(t.Basis); err != nil {
		return fmt.Errorf("gateway: save the table: %w", err)
	}
	for _, v := range values {
		b, err := isthmusv1.Marshal(v.Value)
		if err != nil {
			return fmt.Errorf("gateway: save the table: %s: %w", v.Key, err)
		}
		s.Values = append(s.Values, savedValue{v.Key.Kind, v.Key.Parts(), b})
	}
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("gateway: save the table: %w", err)
	}
	sum := sha256.Sum256(body)
	return replaceFile(filepath.Join(directory, savedName), append([]byte(hex.EncodeToString(sum[:])+"\n"), body...))
}

// replaceFile makes a file's contents the given ones, or leaves it as it was.
func replaceFile(path string, contents []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("gateway: save the table: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("gateway: save the table: %w", err)
	}
	_, err = temporary.Write(contents)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("gateway: save the table: %w", err)
	}
	return nil
}

// load applies the table saved in the directory. It returns when that was saved;
// the zero time and no error when there is none.
func (f *Feed) load(directory, datacenter string) (time.Time, error) {
	path := filepath.Join(directory, savedName)
	contents, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("gateway: load the saved table: %w", err)
	}
	t, at, err := parseSaved(contents, datacenter)
	if err != nil {
		return time.Time{}, fmt.Errorf("gateway: load the saved table %s: %w (remove the file to start without it)", path, err)
	}
	f.applySaved(t, at)
	return at, nil
}

// parseSaved returns the file's table as the transaction that makes it. Errors
// are [ErrSavedTable] and [ErrOtherDatacenter].
func parseSaved(contents []byte, datacenter string) (*isthmusv1.Transaction, time.Time, error) {
	head, body, ok := bytes.Cut(contents, []byte("\n"))
	sum := sha256.Sum256(body)
	if !ok || string(head) != hex.EncodeToString(sum[:]) {
		return nil, time.Time{}, fmt.Errorf("%w: its checksum does not fit", ErrSavedTable)
	}
	var s saved
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrSavedTable, err)
	}
	if s.Version != savedVersion {
		return nil, time.Time{}, fmt.Errorf("%w: version %d; this is version %d", ErrSavedTable, s.Version, savedVersion)
	}
	if !strings.EqualFold(s.Datacenter, datacenter) {
		return nil, time.Time{}, fmt.Errorf("%w: of %s, not %s", ErrOtherDatacenter, s.Datacenter, datacenter)
	}
	t, err := s.transaction()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %w", ErrSavedTable, err)
	}
	return t, s.Saved, nil
}

func (s *saved) transaction() (*isthmusv1.Transaction, error) {
	position, basis := new(isthmusv1.Position), new(isthmusv1.Basis)
	if err := errors.Join(proto.Unmarshal(s.Position, position), proto.Unmarshal(s.Basis, basis)); err != nil {
		return nil, err
	}
	t := &isthmusv1.Transaction{
		Stream:      position.GetStream(),
		Incarnation: position.GetIncarnation(),
		Sequence:    position.GetSequence(),
		Reset:       true,
		End:         &isthmusv1.TransactionEnd{Basis: basis},
	}
	for _, v := range s.Values {
		value := isthmusv1.NewValue(v.Kind)
		if value == nil {
			return nil, fmt.Errorf("unknown kind %q", v.Kind)
		}
		if err := proto.Unmarshal(v.Value, value); err != nil {
			return nil, err
		}
		t.Changes = append(t.Changes, isthmusv1.Change{Key: isthmusv1.NewKey(v.Kind, v.Parts...), Value: value, Bytes: v.Value})
	}
	return t, nil
}
