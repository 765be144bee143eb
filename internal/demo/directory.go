package demo

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// directory is where the demo's files are: host.db, tenants/, master.key and provider.key.
type directory struct {
	path string
	kept bool
}

// openDirectory makes the directory that --data names, or one that leave removes.
func openDirectory(data string) (*directory, error) {
	if data == "" {
		path, err := os.MkdirTemp("", "tenantgate-demo-")
		if err != nil {
			return nil, fmt.Errorf("make a temporary directory (TMPDIR says where, --data DIR needs none): %w", err)
		}
		return &directory{path: path}, nil
	}
	path, err := filepath.Abs(data)
	if err != nil {
		return nil, fmt.Errorf("--data %s: %w", data, err)
	}
	if !plain(path) {
		return nil, fmt.Errorf("%w: --data %q: the path goes into database URIs, so it must be of printable ASCII without spaces, ? and #", ErrUsage, path)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("--data %s: %w", path, err)
	}
	return &directory{path: path, kept: true}, nil
}

// plain reports whether a path can stand in a header and in a URI as it is.
func plain(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || r == '?' || r == '#' })
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

// leave removes what is not to be kept.
func (d *directory) leave() error {
	if d.kept {
		return nil
	}
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("remove the demo's files: %w", err)
	}
	return nil
}

// masterKey and providerKey are kept with the files, so that sessions and tokens outlive a restart.
func (d *directory) masterKey() (secret.Text, error) {
	const name = "master.key"
	text, err := d.keep(name, func() ([]byte, error) {
		raw := make([]byte, 32)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		return []byte(base64.StdEncoding.EncodeToString(raw) + "\n"), nil
	})
	if err != nil {
		return secret.Text{}, err
	}
	line := strings.TrimSpace(string(text))
	if raw, err := base64.StdEncoding.DecodeString(line); err != nil || len(raw) < 32 {
		return secret.Text{}, fmt.Errorf("%s: not base64 of 32 bytes; remove the directory to start anew", d.file(name))
	}
	return secret.New(line), nil
}

func (d *directory) providerKey() (crypto.Signer, error) {
	const name = "provider.key"
	text, err := d.keep(name, func() ([]byte, error) {
		key, err := devidp.NewKey()
		if err != nil {
			return nil, err
		}
		return devidp.MarshalKey(key)
	})
	if err != nil {
		return nil, err
	}
	key, err := devidp.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file to have a new one made", d.file(name), err)
	}
	return key, nil
}

// keep reads a file of ours, or makes it, for its owner alone. It is there whole or not at all.
func (d *directory) keep(name string, make func() ([]byte, error)) ([]byte, error) {
	path := d.file(name)
	text, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if text, err = make(); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(d.path, name+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(file.Name()))
	}
	return text, nil
}
