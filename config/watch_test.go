package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Paces for tests: one hears only of what the system reports, the other only polls.
var (
	listening = pace{quiet: 5 * time.Millisecond, most: 50 * time.Millisecond, poll: time.Hour}
	polling   = pace{quiet: time.Hour, most: time.Hour, poll: 5 * time.Millisecond, blind: true}
)

type change struct {
	cfg *Config
	err error
}

// watched loads dir/config.yaml and watches it until the test ends.
func watched(t *testing.T, dir string, pace pace) (<-chan change, *Watcher) {
	t.Helper()
	opts := LoadOptions{Path: filepath.Join(dir, "config.yaml"), Environ: []string{"X=1"}}
	cfg, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan change, 16)
	w := watch(context.Background(), opts, cfg, func(cfg *Config, err error) { changes <- change{cfg, err} }, pace)
	t.Cleanup(w.Close)
	return changes, w
}

func next(t *testing.T, changes <-chan change) change {
	t.Helper()
	select {
	case c := <-changes:
		return c
	case <-time.After(2 * time.Minute):
		t.Fatal("the change goes unnoticed")
	}
	return change{}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// directory holds a valid configuration whose roles are named.
func directory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), masterSecret)
	write(t, filepath.Join(dir, "config.yaml"), withRole(dir, "first"))
	return dir
}

func withRole(dir, role string) string {
	return strings.Replace(minimal, "/run/key", filepath.Join(dir, "key"), 1) + "roles: [" + role + "]\n"
}

func TestChangedFileIsLoadedAndAnInvalidOneIsReported(t *testing.T) {
	for name, pace := range map[string]pace{"reported by the system": listening, "polled": polling} {
		t.Run(name, func(t *testing.T) {
			dir := directory(t)
			changes, _ := watched(t, dir, pace)
			write(t, filepath.Join(dir, "config.yaml"), withRole(dir, "second"))
			for c := next(t, changes); ; c = next(t, changes) { // a half-written file may be seen first
				if c.err == nil && c.cfg.Roles[0] == "second" {
					break
				}
			}
			write(t, filepath.Join(dir, "config.yaml"), withRole(dir, "third")+"nonsense: 1\n")
			for c := next(t, changes); ; c = next(t, changes) {
				if c.err != nil && strings.Contains(c.err.Error(), "nonsense: unknown key") {
					if c.cfg != nil {
						t.Error("an invalid configuration is handed out")
					}
					break
				}
			}
			replace(t, filepath.Join(dir, "config.yaml"), withRole(dir, "fourth"))
			for c := next(t, changes); ; c = next(t, changes) {
				if c.err == nil && c.cfg.Roles[0] == "fourth" {
					break
				}
			}
		})
	}
}

// replace puts a new file in the place of another at once, as editors do.
func replace(t *testing.T, name, content string) {
	t.Helper()
	write(t, name+".new", content)
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestChangedSecretIsLoaded(t *testing.T) {
	dir := directory(t)
	changes, _ := watched(t, dir, listening)
	fresh := NewSecret()
	replace(t, filepath.Join(dir, "key"), fresh+"\n"+masterSecret+"\n")
	if c := next(t, changes); c.err != nil || c.cfg.SecretKey.Reveal() != fresh+"\n"+masterSecret {
		t.Errorf("%v, %v", c.cfg, c.err)
	}
}

func TestFilesThatTheNewConfigurationNamesAreWatchedToo(t *testing.T) {
	dir, other := directory(t), t.TempDir()
	cert, key := filepath.Join(other, "cert.pem"), filepath.Join(other, "key.pem")
	certPEM, keyPEM := selfSigned(t)
	write(t, cert, certPEM)
	write(t, key, keyPEM)
	changes, _ := watched(t, dir, listening)
	replace(t, filepath.Join(dir, "config.yaml"), withRole(dir, "a")+"tls: {cert_file: "+cert+", key_file: "+key+"}\n")
	if c := next(t, changes); c.err != nil {
		t.Fatal(c.err)
	}
	replace(t, cert, certPEM+"\n")
	if c := next(t, changes); c.err != nil || c.cfg.TLS.CertFile != cert {
		t.Errorf("%v, %v", c.cfg, c.err)
	}
}

// Kubernetes mounts files as links into ..data, itself a link that is swapped.
func TestKubernetesVolumeSwapIsNoticed(t *testing.T) {
	dir := t.TempDir()
	version := func(name, role string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "key"), masterSecret)
		write(t, filepath.Join(dir, name, "config.yaml"), withRole(dir, role))
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "first")
	for _, name := range []string{"key", "config.yaml"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	changes, _ := watched(t, dir, listening)
	version("..2", "second")
	if c := next(t, changes); c.err != nil || c.cfg.Roles[0] != "second" {
		t.Errorf("%v, %v", c.cfg, c.err)
	}
}

func TestChangeBetweenLoadingAndWatchingIsNoticed(t *testing.T) {
	dir := directory(t)
	opts := LoadOptions{Path: filepath.Join(dir, "config.yaml"), Environ: []string{}}
	cfg, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, opts.Path, withRole(dir, "second"))
	changes := make(chan change, 4)
	w := watch(t.Context(), opts, cfg, func(cfg *Config, err error) { changes <- change{cfg, err} }, listening)
	defer w.Close()
	if c := next(t, changes); c.err != nil || c.cfg.Roles[0] != "second" {
		t.Errorf("%v, %v", c.cfg, c.err)
	}
}

func TestUnchangedContentIsNoChange(t *testing.T) {
	dir := directory(t)
	changes, w := watched(t, dir, listening)
	replace(t, filepath.Join(dir, "config.yaml"), withRole(dir, "first"))
	write(t, filepath.Join(dir, "another"), "x")
	w.Reload() // comes after whatever the writes set off, or stands for it
	if c := next(t, changes); c.err != nil || c.cfg.Roles[0] != "first" {
		t.Errorf("%v, %v", c.cfg, c.err)
	}
	w.Close()
	select {
	case c := <-changes:
		t.Errorf("a file that was written anew with the same content counts as changed: %v", c)
	default:
	}
}

func TestVanishedFileIsAFaultAndItsReturnIsNoticed(t *testing.T) {
	dir := directory(t)
	changes, _ := watched(t, dir, listening)
	file := filepath.Join(dir, "config.yaml")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	if c := next(t, changes); c.err == nil || !strings.HasSuffix(c.err.Error(), "config.yaml: cannot be read: no such file or directory") {
		t.Errorf("%v, %v", c.cfg, c.err)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	if c := next(t, changes); c.err != nil {
		t.Error(c.err)
	}
}

func TestCloseWaitsForTheCallAndComesTwice(t *testing.T) {
	dir := directory(t)
	opts := LoadOptions{Path: filepath.Join(dir, "config.yaml"), Environ: []string{}}
	entered, leave := make(chan struct{}), make(chan struct{})
	left := false
	w := Watch(t.Context(), opts, nil, func(*Config, error) {
		close(entered)
		<-leave
		left = true
	})
	w.Reload()
	<-entered
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		w.Close()
		w.Close()
	}()
	select {
	case <-closed:
		t.Error("Close does not wait for onChange")
	default:
	}
	close(leave)
	<-closed
	if !left {
		t.Error("Close came back before onChange did")
	}
}
