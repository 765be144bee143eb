package router

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/sealing"
)

// Opener turns what core_tenants.db_url holds into the URI that the app is given. Open is asked once for a sealed
// value, and for a reference before each decision: it must be quick where it knows the answer. An error says that the
// tenant alone is misconfigured; once ctx has ended it says nothing.
type Opener interface {
	Open(ctx context.Context, tenant catalog.TenantID, stored catalog.DBURI) (catalog.DBURI, error)
}

type uriState uint8

const (
	uriAbsent uriState = iota
	uriUsable
	uriUnusable // not opened, or with a byte that a header cannot carry
)

// openedURI is what the app is given of a db_url; immutable. Only where it is usable are uri and hash set.
type openedURI struct {
	uri    catalog.DBURI
	hash   [sha256.Size]byte // for db_uri_sha256
	state  uriState
	cause  string // why it is unusable, for explain: fixed texts alone
	failed error  // the Opener's, where it did not open
}

// because is what explain adds.
func (o *openedURI) because() string {
	switch {
	case o == nil || o.state == uriAbsent:
		return " is empty"
	case o.cause != "":
		return ": " + o.cause
	}
	return ""
}

// noURI stands in records of no tenant.
var noURI = &openedURI{}

// carry judges a URI that is to be forwarded verbatim. What was sealed inside of a seal, or referred to by a reference,
// is no URI.
func carry(u catalog.DBURI) *openedURI {
	s := u.Reveal()
	if s == "" {
		return noURI
	}
	if sealing.FormOf(u) != sealing.Plain {
		return &openedURI{state: uriUnusable, cause: "holds no plain URI"}
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x21 || s[i] > 0x7E {
			return &openedURI{state: uriUnusable, cause: "holds a byte that a header cannot carry"}
		}
	}
	return &openedURI{uri: u, hash: sha256.Sum256([]byte(s)), state: uriUsable}
}

// unopened stands in a record until its db_url is opened, and for good where there is nothing to open it with.
var unopened = &openedURI{state: uriUnusable, cause: "is sealed or a reference and was not opened"}

// keep prepares a record for what its tenant's db_url holds. A text that begins like a sealed one or a reference is
// never forwarded as if it were plain.
func (r *Record) keep(stored catalog.DBURI) {
	switch sealing.FormOf(stored) {
	case sealing.Sealed, sealing.Reference:
		r.stored = stored
		r.opened.Store(unopened)
	default:
		r.opened.Store(carry(stored))
	}
}

// openURI makes sure that the record of a sealed or referenced db_url holds the URI as it is now. An error says that it
// was not found out; a db_url that does not open is none: the record says so.
func (d *directory) openURI(ctx context.Context, r *Record) error {
	if r.stored.IsZero() || d.opener == nil || r.member != activeMembership || !r.tenantActive || r.locks.Endless() {
		return nil
	}
	now := r.opened.Load()
	if now != unopened && sealing.FormOf(r.stored) == sealing.Sealed {
		return nil
	}
	uri, err := d.opener.Open(ctx, r.tenant.ID, r.stored)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil && now.failed != nil && errors.Is(err, now.failed):
		return nil
	case err != nil:
		r.opened.Store(&openedURI{state: uriUnusable, cause: sealing.Reason(err), failed: err})
	case uri != now.uri || now.state != uriUsable:
		r.opened.Store(carry(uri))
	}
	return nil
}
