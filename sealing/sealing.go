// Package sealing knows what core_tenants.db_url may hold beside a plain URI, and what else lies sealed in the host
// database.
//
// Purpose: Opener turns a stored db_url into the URI that the app is given: it opens seals and reads references, within
// the bounds of host_database.refs. Encrypt seals what is plain; Rotate seals anew under the first master secret what
// lies under an older one.
//
// Concurrency: an Opener is safe for concurrent use and remembers references for a few seconds; its owner closes it.
// Encrypt and Rotate work in short transactions beside whatever else writes; each may run many times at once.
//
// Failure mode: closed. What does not open is an error for its tenant alone, which names a reason and nothing of the
// content. Encrypt and Rotate replace a value only if it still is the one that they read; killed at any moment, they go
// on where they were.
package sealing

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// Form is the form of a stored db_url.
type Form uint8

// The forms. Whatever begins with neither enc: nor ref: is plain.
const (
	Absent Form = iota
	Plain
	Sealed    // enc:v1:<key id>:<base64url>
	Reference // ref:env:NAME or ref:file:PATH
)

const (
	sealedPrefix    = "enc:"
	referencePrefix = "ref:"
	envKind         = "env:"
	fileKind        = "file:"
)

// Errors of references. None says anything of the content.
var (
	// ErrReference: neither ref:env:NAME nor ref:file:PATH.
	ErrReference = errors.New("reference is neither ref:env:NAME nor ref:file:PATH")
	// ErrForbidden: host_database.refs does not allow what the reference points at.
	ErrForbidden = errors.New("reference points outside of host_database.refs")
	// ErrUnset: the environment variable is not set, or the file is not there or cannot be read.
	ErrUnset = errors.New("reference points at nothing that can be read")
	// ErrNotRegular: the file is a directory, a pipe, a device or a socket.
	ErrNotRegular = errors.New("reference points at something that is no regular file")
	// ErrTooLarge: more than 4 KiB.
	ErrTooLarge = errors.New("reference points at more than 4KiB")
	// ErrNotURI: what the reference points at is no database URI that a header can carry.
	ErrNotURI = errors.New("reference points at something that is no database URI")
	// ErrSlow: the file system did not answer in time.
	ErrSlow = errors.New("reference points at a file that could not be read in time")
)

// FormOf says which form a stored db_url has. It looks at the beginning alone.
func FormOf(stored catalog.DBURI) Form {
	switch s := stored.Reveal(); {
	case s == "":
		return Absent
	case strings.HasPrefix(s, sealedPrefix):
		return Sealed
	case strings.HasPrefix(s, referencePrefix):
		return Reference
	}
	return Plain
}

// purpose binds a sealed db_url to its tenant: it is part of the associated data, so that a value that was moved to
// another tenant does not open.
func purpose(tenant catalog.TenantID) string { return "core_tenants.db_url/" + string(tenant) }

// Seal returns the stored form of a tenant's URI, sealed under the first secret. It refuses the zero URI, and what is
// sealed or a reference already.
func Seal(keys seal.Keyset, tenant catalog.TenantID, uri catalog.DBURI) (catalog.DBURI, error) {
	if FormOf(uri) != Plain {
		return catalog.DBURI{}, errors.New("seal: not a plain URI")
	}
	sealed, err := keys.Seal(purpose(tenant), []byte(uri.Reveal()))
	if err != nil {
		return catalog.DBURI{}, err
	}
	return catalog.NewDBURI(sealedPrefix + sealed), nil
}

// Unseal returns the URI that Seal was given for that tenant. Errors: seal.ErrOtherSecret, seal.ErrBroken.
func Unseal(keys seal.Keyset, tenant catalog.TenantID, stored catalog.DBURI) (catalog.DBURI, error) {
	text, ok := strings.CutPrefix(stored.Reveal(), sealedPrefix)
	if !ok {
		return catalog.DBURI{}, seal.ErrBroken
	}
	plain, err := keys.Open(purpose(tenant), text)
	if err != nil {
		return catalog.DBURI{}, err
	}
	return catalog.NewDBURI(string(plain)), nil
}

// CheckReference judges the form of a reference, not where it points: that is the proxy's to see, which may run
// elsewhere. Its error repeats nothing of the text.
func CheckReference(stored catalog.DBURI) error {
	_, _, err := parseReference(stored.Reveal())
	return err
}

// parseReference takes ref:env:NAME and ref:file:PATH apart.
func parseReference(s string) (kind, target string, err error) {
	rest, ok := strings.CutPrefix(s, referencePrefix)
	if !ok {
		return "", "", ErrReference
	}
	for _, kind := range []string{envKind, fileKind} {
		target, ok := strings.CutPrefix(rest, kind)
		if !ok {
			continue
		}
		if target == "" || len(target) > maxTarget || strings.ContainsFunc(target, control) || kind == envKind && strings.Contains(target, "=") {
			return "", "", ErrReference
		}
		return kind, target, nil
	}
	return "", "", ErrReference
}

// maxTarget bounds NAME and PATH, in bytes.
const maxTarget = 4096

func control(r rune) bool { return r < 0x20 || r == 0x7f }

// CheckURI reports whether s is a database URI that a header can carry: scheme://… or sqlite:PATH, of bytes 0x21 to
// 0x7E, with valid escapes. The error is ErrNotURI, whatever is wrong.
func CheckURI(s string) error {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7E {
			return ErrNotURI
		}
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !validScheme(scheme) {
		return ErrNotURI
	}
	if _, err := url.PathUnescape(rest); err != nil {
		return ErrNotURI // the cause would repeat a part
	}
	if after, ok := strings.CutPrefix(rest, "//"); ok && strings.Trim(after, "/") != "" {
		return nil
	}
	if strings.HasPrefix(strings.ToLower(scheme), "sqlite") && rest != "" && !strings.HasPrefix(rest, "//") {
		return nil
	}
	return ErrNotURI
}

// validScheme goes by RFC 3986 section 3.1. What names the web or files, and our own forms, are no databases.
func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(s[i]))) {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "", "http", "https", "ws", "wss", "ftp", "file", "enc", "ref":
		return false
	}
	return true
}

// Reason is a fixed text for why a db_url is not usable: fit for logs, as errors of this package are, and for explain.
func Reason(err error) string {
	for _, known := range []error{
		seal.ErrOtherSecret, seal.ErrBroken, ErrReference, ErrForbidden, ErrUnset, ErrNotRegular, ErrTooLarge, ErrNotURI, ErrSlow,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprintf("unexpected error (%T)", err)
}
