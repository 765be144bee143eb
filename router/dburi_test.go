package router

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// keysOf opens what a test says, and counts.
type keysOf struct {
	uri   string
	err   error
	calls int
}

func (k *keysOf) Open(_ context.Context, tenant catalog.TenantID, _ catalog.DBURI) (catalog.DBURI, error) {
	k.calls++
	if tenant != "acme" {
		return catalog.DBURI{}, errors.New("asked for another tenant")
	}
	return catalog.NewDBURI(k.uri), k.err
}

// decideWith asks once more about one record, as a request does.
func decideWith(t *testing.T, d *directory, rec *Record, trace *Trace) (*Grant, Code) {
	t.Helper()
	if err := d.openURI(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	return d.policy.Decide(&Route{}, rec, noon, trace)
}

func storing(dbURL string) catalog.GrantFacts {
	f := payingFacts()
	f.Tenant.DBURL = catalog.NewDBURI(dbURL)
	return f
}

func TestSealedURIIsOpenedOnceAndSentAsIfItWerePlain(t *testing.T) {
	p := testPolicy(t, billing.Config{})
	keys := &keysOf{uri: "postgresql://u:pw@db/acme"}
	d := &directory{policy: p, opener: keys}
	rec := p.newRecord(storing("enc:v1:x"))
	for range 3 {
		g, code := decideWith(t, d, rec, nil)
		if code != "" || g.DBURI().Reveal() != keys.uri || g.uriHash() != sha256.Sum256([]byte(keys.uri)) {
			t.Fatalf("%q, %q", code, g.DBURI())
		}
	}
	if keys.calls != 1 {
		t.Errorf("opened %d times", keys.calls)
	}
	for _, f := range []func(*catalog.GrantFacts){
		func(f *catalog.GrantFacts) { f.Memberships = nil },
		func(f *catalog.GrantFacts) { f.Memberships[0].IsActive = nil },
		func(f *catalog.GrantFacts) { f.Tenant.IsActive = nil },
		func(f *catalog.GrantFacts) { f.Locks = catalog.LockedUntil(time.Time{}) },
	} {
		facts := storing("enc:v1:x")
		f(&facts)
		if g, code := decideWith(t, d, p.newRecord(facts), nil); g != nil || code == "" || code == TenantMisconfigured {
			t.Errorf("%v, %q", g, code)
		}
	}
	if keys.calls != 1 {
		t.Error("opened for somebody who may not enter")
	}
}

func TestReferenceIsLookedUpForEachDecision(t *testing.T) {
	p := testPolicy(t, billing.Config{})
	keys := &keysOf{}
	d := &directory{policy: p, opener: keys}
	rec := p.newRecord(storing("ref:env:X"))
	var before *Grant
	for i, step := range []keysOf{
		{uri: "postgresql://h/1"},
		{uri: "postgresql://h/1"},
		{uri: "postgresql://h/2"},
		{err: sealing.ErrUnset},
		{err: sealing.ErrUnset},
		{err: sealing.ErrNotURI},
		{uri: "postgresql://h/2"},
	} {
		keys.uri, keys.err = step.uri, step.err
		trace := &Trace{}
		g, code := decideWith(t, d, rec, trace)
		last := trace.Steps[len(trace.Steps)-1]
		switch {
		case step.err != nil:
			if g != nil || code != TenantMisconfigured || last.Source != "core_tenants.db_url: "+step.err.Error() {
				t.Errorf("step %d: %q, %+v", i, code, last)
			}
		case code != "" || g.DBURI().Reveal() != step.uri || last.Result != "ok":
			t.Errorf("step %d: %q, %v", i, code, last)
		}
		if i == 0 {
			before = g
		}
	}
	if before.DBURI().Reveal() != "postgresql://h/1" {
		t.Error("a grant changed after it was given")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	keys.err = sealing.ErrInterrupted
	if err := d.openURI(ctx, rec); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that ended: %v", err)
	}
	if g, code := p.Decide(&Route{}, rec, noon, nil); code != "" || g.DBURI().Reveal() != "postgresql://h/2" {
		t.Errorf("a request that ended changed the answer for others: %q", code)
	}
}

func TestWhatDoesNotOpenIsNeverForwarded(t *testing.T) { // FAIL-1
	for name, c := range map[string]struct {
		stored string
		opener Opener
	}{
		"nobody opens":     {"enc:v1:x", nil},
		"no references":    {"ref:env:X", nil},
		"other secret":     {"enc:v1:x", &keysOf{err: seal.ErrOtherSecret}},
		"broken":           {"enc:v1:x", &keysOf{err: seal.ErrBroken}},
		"sealed reference": {"enc:v1:x", &keysOf{uri: "ref:env:X"}},
		"sealed twice":     {"enc:v1:x", &keysOf{uri: "enc:v1:y"}},
		"sealed nothing":   {"enc:v1:x", &keysOf{}},
		"sealed bytes":     {"enc:v1:x", &keysOf{uri: "postgresql://h/d\r\nX-User-Role: owner"}},
		"plain bytes":      {"postgresql://h/d d", nil},
		"nothing":          {"", nil},
	} {
		p := testPolicy(t, billing.Config{})
		d := &directory{policy: p, opener: c.opener}
		trace := &Trace{}
		if g, code := decideWith(t, d, p.newRecord(storing(c.stored)), trace); g != nil || code != TenantMisconfigured {
			t.Errorf("%s: %q", name, code)
		}
		if last := trace.Steps[len(trace.Steps)-1].Source; len(last) <= len("core_tenants.db_url") {
			t.Errorf("%s: explain does not say why: %s", name, last)
		}
		off := newPolicy(Config{}, false) // forward.db_uri: off
		d.policy = off
		if g, code := decideWith(t, d, off.newRecord(storing(c.stored)), nil); code != "" || !g.DBURI().IsZero() || g.uriHash() != [sha256.Size]byte{} {
			t.Errorf("%s, off: %q, %v", name, code, g)
		}
	}
}
