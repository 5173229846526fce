package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
	"github.com/isthmus-mesh/isthmus/watcher"
	"github.com/isthmus-mesh/isthmus/watcher/definition"
)

// Scope is the name of a directory's only scope.
const Scope = "directory"

// Intervals.
const (
	// DefaultPoll is how often the directory is looked at where the kernel does
	// not tell of changes.
	DefaultPoll = time.Second
	// recheckAfter is how often a directory that is gone is looked for, and a file
	// that has become empty looked at again.
	recheckAfter = 250 * time.Millisecond
	// emptyFor is how long a file that has become empty is taken as about to be
	// written: the kernel tells of a truncation only after it can be seen, and on
	// a busy machine the writer may be made to wait in between.
	emptyFor = time.Second
)

// Options say which directory, and what its files do not say.
type Options struct {
	// Catalog is the directory that holds one directory per datacenter.
	Catalog string
	// Datacenter names the one to read, without regard to case.
	Datacenter string
	// TrustDomain goes into the mesh facts.
	TrustDomain string
	// Roots are published as they are. Nil: none are.
	Roots *isthmusv1.CARoots
	// Poll, if not 0, looks at the directory in this interval instead of having
	// the kernel tell of changes: for network file systems.
	Poll time.Duration
	// Logger is told of every problem once. May be nil.
	Logger *slog.Logger
}

// Source is a datacenter's directory as a [watcher.Source].
type Source struct {
	options Options
	log     *slog.Logger

	// reading is held by a reading, and guards what it keeps.
	reading  sync.Mutex
	notifier notifier
	// last holds the files' bytes of the last reading, for those that are being
	// written in the next one.
	last map[string][]byte
	// emptied holds the files that had content and are seen without.
	emptied map[string]emptiness

	mu       sync.Mutex // guards what follows
	sink     watcher.Sink
	roots    *isthmusv1.CARoots
	problems []definition.Problem
	lost     error
}

// emptiness is since when a file is seen without content, and when that was
// last written: a writer at work truncates again and again, and each time counts
// by itself.
type emptiness struct{ since, modified time.Time }

var _ watcher.Source = (*Source)(nil)

// New returns a source that watches nothing until [Source.Run].
func New(options Options) (*Source, error) {
	if options.Catalog == "" || options.Datacenter == "" {
		return nil, errors.New("a directory as a source needs the catalog and the datacenter")
	}
	options.Datacenter = cmp.Or(foldName(options.Datacenter), options.Datacenter)
	return &Source{
		options: options,
		log:     cmp.Or(options.Logger, slog.New(slog.DiscardHandler)).With("catalog", options.Catalog),
		roots:   options.Roots,
		last:    map[string][]byte{},
		emptied: map[string]emptiness{},
	}, nil
}

// Run watches the directory until the context ends, and returns its cause. A
// directory that is not there, or goes away, is waited for.
func (s *Source) Run(ctx context.Context, sink watcher.Sink) error {
	s.start(sink)
	defer s.stop()
	sink.Scopes([]string{Scope})
	sink.Changed(Scope)
	recheck := time.NewTicker(recheckAfter)
	defer recheck.Stop()
	for {
		select {
		case <-s.changes():
			sink.Changed(Scope)
		case <-recheck.C:
			if s.Live() != nil || s.doubtful() {
				sink.Changed(Scope)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Source) start(sink watcher.Sink) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.notifier = s.newNotifier()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = sink
}

func (s *Source) stop() {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.notifier.close()
	s.notifier = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = nil
}

// newNotifier asks the kernel, or else looks again and again.
func (s *Source) newNotifier() notifier {
	if s.options.Poll == 0 {
		n, err := newNotifier(s.options.Catalog)
		if err == nil {
			return n
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			s.log.Warn("changes are looked for once a second", "err", err)
		}
	}
	return newPoller(s.options.Catalog, cmp.Or(s.options.Poll, DefaultPoll))
}

// changes is the present notifier's channel. A reading that replaces the
// notifier says so by the sink.
func (s *Source) changes() <-chan struct{} {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.notifier.changes()
}

// SetRoots replaces the published roots.
func (s *Source) SetRoots(roots *isthmusv1.CARoots) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proto.Equal(s.roots, roots) {
		return
	}
	s.roots = roots
	if s.sink != nil {
		s.sink.Changed(Scope)
	}
}

// Problems are all problems of the last reading, by file and line, with files
// relative to the datacenter's directory. Errors among them are why the last
// good state stays.
func (s *Source) Problems() []definition.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Live is why the directory cannot be read at all; nil: it can.
func (s *Source) Live() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Read reads the directory. Possible errors: [watcher.ErrUnusable] when a file
// has an error, and those of the file system.
func (s *Source) Read(_ context.Context, scope string) (watcher.State, error) {
	if scope != Scope {
		return watcher.State{}, fmt.Errorf("a directory has one scope, %s, not %q", Scope, scope)
	}
	s.reading.Lock()
	catalog, err := s.read()
	s.reading.Unlock()
	s.setLive(err)
	if err != nil {
		return watcher.State{}, fmt.Errorf("catalog %s: %w", s.options.Catalog, err)
	}
	s.report(catalog.Problems)
	if catalog.HasErrors() {
		return watcher.State{}, fmt.Errorf("%d problems in the files of %s: %w", len(catalog.Problems), s.options.Datacenter, watcher.ErrUnusable)
	}
	return s.state(catalog), nil
}

// ReadAll reads the directory, which is all there is. Errors are as of Read.
func (s *Source) ReadAll(ctx context.Context) ([]watcher.State, error) {
	state, err := s.Read(ctx, Scope)
	if err != nil {
		return nil, err
	}
	return []watcher.State{state}, nil
}

// state is what the files come to, with what they do not say.
func (s *Source) state(catalog definition.Catalog) watcher.State {
	state := watcher.State{Scope: Scope, Values: make([]watcher.Value, 0, len(catalog.Values)+1)}
	for _, v := range catalog.Values {
		state.Values = append(state.Values, watcher.Value{Key: v.Key, Value: v.Message, Source: v.Source})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roots != nil {
		state.Values = append(state.Values, watcher.Value{Key: isthmusv1.RootsKey(), Value: s.roots, Source: &isthmusv1.Source{}})
	}
	return state
}

// read reads and parses the files. The error is one of the directory as a whole.
func (s *Source) read() (definition.Catalog, error) {
	root, err := os.OpenRoot(s.options.Catalog)
	if err != nil {
		return definition.Catalog{}, err
	}
	defer root.Close()
	n := s.notifier
	t := &tree{fsys: root.FS()}
	if n != nil {
		n.begin()
		t.watch = n.watch
		// The catalog itself shows datacenters come and go.
		err = n.watch(".")
	}
	var datacenters []directory
	if err == nil {
		datacenters, err = listDatacenters(t.fsys)
	}
	if err == nil {
		t.top, err = findDatacenter(datacenters, s.options.Datacenter)
	}
	if err == nil {
		err = t.read()
	}
	if n != nil {
		n.settle()
	}
	if errors.Is(err, errWatchLimit) {
		s.log.Warn("changes are looked for once a second", "err", err)
		n.close()
		s.notifier = newPoller(s.options.Catalog, DefaultPoll)
		return s.read()
	}
	if err != nil {
		return definition.Catalog{}, err
	}
	catalog := definition.Parse(s.settled(t), definition.Options{
		Datacenter: s.options.Datacenter, TrustDomain: s.options.TrustDomain, KnownDatacenters: names(datacenters),
	})
	catalog.Problems = append(t.problems, catalog.Problems...)
	return catalog, nil
}

// settled returns the files, those that are being written as they were before.
func (s *Source) settled(t *tree) []definition.File {
	files, last := t.files[:0], make(map[string][]byte, len(t.files))
	emptied := map[string]emptiness{}
	for _, f := range t.files {
		before, known := s.last[f.Name]
		switch {
		case s.notifier == nil:
		case s.notifier.writing(t.absolute(f.Name)):
			if !known {
				continue // A new file counts when it is closed.
			}
			f.Data = before
		case len(f.Data) == 0 && len(before) > 0:
			seen, ok := s.emptied[f.Name]
			if modified := t.modified[f.Name]; !ok || !seen.modified.Equal(modified) {
				seen = emptiness{since: time.Now(), modified: modified}
			}
			if time.Since(seen.since) < emptyFor {
				emptied[f.Name], f.Data = seen, before
			}
		}
		last[f.Name] = f.Data
		files = append(files, f)
	}
	s.last, s.emptied = last, emptied
	return files
}

// doubtful reports whether a file has become empty just now.
func (s *Source) doubtful() bool {
	s.reading.Lock()
	defer s.reading.Unlock()
	return len(s.emptied) > 0
}

// setLive tells the watcher whether the directory could be read.
func (s *Source) setLive(err error) {
	s.mu.Lock()
	s.lost = err
	sink := s.sink
	s.mu.Unlock()
	if sink != nil {
		sink.Live(err)
	}
}

// report logs what was not wrong at the last reading, and what is right again.
func (s *Source) report(problems []definition.Problem) {
	s.mu.Lock()
	before := s.problems
	s.problems = problems
	s.mu.Unlock()
	for _, p := range problems {
		if slices.Contains(before, p) {
			continue
		}
		level := slog.LevelError
		if p.Severity == definition.SeverityWarning {
			level = slog.LevelWarn
		}
		s.log.Log(context.Background(), level, "problem in a file", "file", p.File, "line", p.Line, "key", p.Key, "problem", p.Problem, "fix", p.Fix)
	}
	if len(before) > 0 && len(problems) == 0 {
		s.log.Info("the files have no problems any more")
	}
}
