package config

import (
	"context"
	"crypto/sha256"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pace is how a Watcher spends its time.
type pace struct {
	quiet time.Duration // a change is looked at when nothing has happened for so long,
	most  time.Duration // or so long after the first event
	poll  time.Duration // the files are read anyway so often, where the system reports nothing
	blind bool          // does without the system's reports
}

// Watcher looks for changes of a configuration's files.
type Watcher struct {
	opts     LoadOptions
	onChange func(*Config, error)
	pace     pace
	events   *fsnotify.Watcher // nil where the system has none left: polling does

	files   []string
	digests map[string][sha256.Size]byte
	dirs    map[string]bool

	force  chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Watch calls onChange, from one goroutine, whenever the content of a file that belongs to the configuration has
// changed: the file itself, those of secrets, certificates and keys. It gets the new Config, or the *Error for which it
// is refused; the one in force is then the caller's to keep. Environment variables do not change.
//
// loaded is the Config that opts made and that is in force; changes since it was read are noticed too. Nil: only
// the file itself is watched, from now on. The directories are watched rather than the files, so that files may be
// replaced, as editors and Kubernetes (..data) do, and all files are read every ten seconds besides. ctx ends the
// watching as Close does.
func Watch(ctx context.Context, opts LoadOptions, loaded *Config, onChange func(*Config, error)) *Watcher {
	return watch(ctx, opts, loaded, onChange, pace{quiet: 100 * time.Millisecond, most: time.Second, poll: 10 * time.Second})
}

func watch(ctx context.Context, opts LoadOptions, loaded *Config, onChange func(*Config, error), pace pace) *Watcher {
	if opts.ReadFile == nil {
		opts.ReadFile = readFile
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{
		opts: opts, onChange: onChange, pace: pace, dirs: map[string]bool{},
		force: make(chan struct{}, 1), cancel: cancel,
	}
	if !pace.blind {
		w.events, _ = fsnotify.NewWatcher() // without one, polling does
	}
	var known map[string][sha256.Size]byte
	if loaded != nil && loaded.src != nil {
		known = loaded.src.digests
		if opts.Path == "" {
			w.opts.Path = loaded.File() // its disappearance is a fault, not a reason to do without
		}
	}
	w.follow(loaded)
	w.digests = w.read()
	for name, digest := range known {
		if _, ok := w.digests[name]; ok {
			w.digests[name] = digest
		}
	}
	w.done.Go(func() { w.run(ctx) })
	return w
}

// Reload loads the configuration now and calls onChange with it, changed or not.
func (w *Watcher) Reload() {
	select {
	case w.force <- struct{}{}:
	default: // one is due already
	}
}

// Close ends the watching and waits for a call of onChange to return, so that onChange must not call it.
func (w *Watcher) Close() {
	w.cancel()
	w.done.Wait()
}

func (w *Watcher) run(ctx context.Context) {
	defer w.cancel()
	var events <-chan fsnotify.Event
	var troubles <-chan error
	if w.events != nil {
		defer w.events.Close()
		events, troubles = w.events.Events, w.events.Errors
	}
	poll := time.NewTicker(w.pace.poll)
	defer poll.Stop()
	quiet, most := time.NewTimer(0), time.NewTimer(0) // fires at once: what has changed since loading?
	defer quiet.Stop()
	defer most.Stop()
	pending := false
	for {
		always := false
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if !w.concerns(e) {
				continue
			}
			quiet.Reset(w.pace.quiet)
			if !pending {
				pending = true
				most.Reset(w.pace.most)
			}
			continue
		case <-troubles: // events may have been lost
		case <-quiet.C:
		case <-most.C:
		case <-poll.C:
		case <-w.force:
			always = true
		}
		pending = false
		quiet.Stop()
		most.Stop()
		w.look(ctx, always)
	}
}

// concerns reports whether an event may be about one of the files: its own name, or Kubernetes' link to all of them.
func (w *Watcher) concerns(e fsnotify.Event) bool {
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		delete(w.dirs, e.Name) // a directory that goes takes its watch along
	}
	if strings.HasPrefix(filepath.Base(e.Name), "..") {
		return true
	}
	return slices.ContainsFunc(w.files, func(file string) bool {
		return filepath.Base(file) == filepath.Base(e.Name) || linkTarget(file) == filepath.Clean(e.Name)
	})
}

// look loads the configuration if a file has another content than at the last look.
func (w *Watcher) look(ctx context.Context, always bool) {
	w.watchDirs() // one that was missing may have come
	digests := w.read()
	if !always && maps.Equal(digests, w.digests) {
		return
	}
	w.digests = digests
	cfg, err := Load(ctx, w.opts)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		w.follow(cfg)
		w.digests = w.read()
		for name, digest := range cfg.src.digests {
			w.digests[name] = digest // what was loaded, whatever stands there by now
		}
	}
	w.onChange(cfg, err)
}

// follow sets the files to watch to those of a Config.
func (w *Watcher) follow(cfg *Config) {
	w.files = nil
	switch {
	case cfg != nil && cfg.File() != "":
		w.files = append(w.files, cfg.File())
	case w.opts.Path != "":
		w.files = append(w.files, w.opts.Path)
	default:
		w.files = append(w.files, DefaultPath)
	}
	if cfg != nil {
		w.files = append(w.files, cfg.Files()...)
	}
	w.watchDirs()
}

// watchDirs watches the directories of all files and of what they link to. One that cannot be watched is polled.
func (w *Watcher) watchDirs() {
	if w.events == nil {
		return
	}
	for _, file := range w.files {
		for _, dir := range []string{filepath.Dir(file), filepath.Dir(linkTarget(file))} {
			if !w.dirs[dir] && len(w.dirs) < 256 {
				w.dirs[dir] = w.events.Add(dir) == nil
			}
		}
	}
}

// linkTarget returns the file that a path leads to in the end, or the path itself.
func linkTarget(file string) string {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		return target
	}
	return filepath.Clean(file)
}

// read returns the digest of every file; one that cannot be read has the zero digest.
func (w *Watcher) read() map[string][sha256.Size]byte {
	out := make(map[string][sha256.Size]byte, len(w.files))
	for _, file := range w.files {
		var digest [sha256.Size]byte
		if content, err := w.opts.ReadFile(file); err == nil {
			digest = sha256.Sum256(content)
		}
		out[file] = digest
	}
	return out
}
