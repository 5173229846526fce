package file

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"
)

// poller is the portable notifier: it looks at every followed directory again
// and again. A file that differs between two looks is taken as being written
// until a third one finds it unchanged.
type poller struct {
	base    string
	changed chan struct{}
	stop    chan struct{}
	done    chan struct{}

	mu sync.Mutex
	// followed holds the directories and linked files of the last reading, seen
	// those of the reading that goes on.
	followed, seen map[string]struct{}
	// last is what the last look showed, taken what the directories showed when
	// their watch began.
	last, taken map[string]stamp
	// open holds the files that are taken as being written.
	open map[string]struct{}
}

// stamp is what a look at a file or link shows; two equal ones mean that
// nothing happened in between, within the file system's grain of time.
type stamp struct {
	mode     fs.FileMode
	size     int64
	modified time.Time
}

// linkMark follows the path of a link or directory, which may stand in its
// directory and lead somewhere at once. No path contains it.
const linkMark = "\x00"

// newPoller looks at the followed directories once in an interval.
func newPoller(base string, interval time.Duration) *poller {
	p := &poller{
		base:     base,
		changed:  make(chan struct{}, 1),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
		followed: map[string]struct{}{},
		seen:     map[string]struct{}{},
		open:     map[string]struct{}{},
	}
	go p.run(interval)
	return p
}

func (p *poller) run(interval time.Duration) {
	defer close(p.done)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.look()
		}
	}
}

// look compares the followed directories with what they were, and wakes the
// source for what has come to rest.
func (p *poller) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return
	}
	now := p.stamps(p.followed)
	wake := p.compare(p.last, now)
	for name := range p.open {
		if was, ok := p.last[name]; ok && now[name] == was {
			delete(p.open, name)
			wake = true
		}
	}
	p.last = now
	if wake {
		p.signal()
	}
}

// compare takes files that are new or not what they were as being written, and
// reports whether anything else differs. With mu held.
func (p *poller) compare(before, now map[string]stamp) (other bool) {
	for name := range before {
		if _, ok := now[name]; !ok {
			delete(p.open, name)
			other = true
		}
	}
	for name, is := range now {
		was, ok := before[name]
		switch {
		case ok && is == was:
		case is.mode.IsRegular():
			p.open[name] = struct{}{}
		default:
			other = true
		}
	}
	return other
}

// stamps looks at everything that stands in the followed directories, and at
// the linked files themselves.
func (p *poller) stamps(followed map[string]struct{}) map[string]stamp {
	out := map[string]stamp{}
	for name := range followed {
		full := filepath.Join(p.base, filepath.FromSlash(name))
		info, err := os.Stat(full)
		if err != nil {
			continue
		}
		if !info.IsDir() {
			out[name] = stampOf(info)
			continue
		}
		entries, err := os.ReadDir(full)
		if err != nil {
			continue
		}
		out[name] = stamp{mode: info.Mode()}
		for _, e := range entries {
			info, err := e.Info()
			switch {
			case err != nil || info.IsDir() && hidden(e.Name()):
			case !info.Mode().IsRegular():
				// The link itself stands beside what it leads to.
				out[path.Join(name, e.Name())+linkMark] = stampOf(info)
			case relevant(e.Name()):
				out[path.Join(name, e.Name())] = stampOf(info)
			}
		}
	}
	return out
}

// stampOf leaves out the times of directories: their entries are looked at.
func stampOf(info fs.FileInfo) stamp {
	if info.IsDir() {
		return stamp{mode: info.Mode()}
	}
	return stamp{mode: info.Mode(), size: info.Size(), modified: info.ModTime()}
}

func (p *poller) signal() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *poller) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.taken = map[string]struct{}{}, map[string]stamp{}
}

func (p *poller) watch(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[name] = struct{}{}
	maps.Copy(p.taken, p.stamps(map[string]struct{}{name: {}}))
	return nil
}

func (p *poller) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.stamps(p.seen)
	wake := p.compare(p.taken, now)
	if p.last != nil {
		wake = p.compare(p.last, now) || wake
	}
	p.followed, p.last = p.seen, now
	if wake {
		p.signal()
	}
}

func (p *poller) writing(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.open[name]
	return ok
}

func (p *poller) changes() <-chan struct{} { return p.changed }

func (p *poller) close() {
	close(p.stop)
	<-p.done
}
