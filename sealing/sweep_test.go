package sealing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// uriOf is the plain URI of a tenant made by fill.
func uriOf(i int) string { return fmt.Sprintf("postgresql://u%d:c4nary%d@db/t%d", i, i, i) }

func idOf(i int) catalog.TenantID { return catalog.TenantID(fmt.Sprintf("t%04d", i)) }

// fill makes n tenants with plain URIs.
func fill(t *testing.T, h *catalog.HostDatabase, n int) {
	t.Helper()
	ctx := t.Context()
	must(t, h.InTx(ctx, func(tx *catalog.Tx) error {
		for i := range n {
			if err := tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: idOf(i), DBURL: catalog.NewDBURI(uriOf(i))}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// stored returns what stands in db_url, by tenant.
func stored(t *testing.T, h *catalog.HostDatabase) map[catalog.TenantID]catalog.DBURI {
	t.Helper()
	out := map[catalog.TenantID]catalog.DBURI{}
	for after := ""; ; {
		rows, next, err := h.Tenants.List(t.Context(), catalog.Page{After: after, Limit: 1000})
		must(t, err)
		for i := range rows {
			out[rows[i].ID] = rows[i].DBURL
		}
		if next == "" {
			return out
		}
		after = next
	}
}

// events counts the audit rows of an event, and fails if any details hold a canary.
func events(t *testing.T, h *catalog.HostDatabase, event string) int {
	t.Helper()
	n := 0
	for after := ""; ; {
		rows, next, err := h.AuditLogs.List(t.Context(), catalog.Page{After: after, Limit: 1000, Filter: map[string]string{"event_type": event}})
		must(t, err)
		for i := range rows {
			n++
			if rows[i].Details != nil && (strings.Contains(*rows[i].Details, "c4nary") || strings.Contains(*rows[i].Details, "enc:v1")) {
				t.Fatalf("%s: the audit holds %s", event, *rows[i].Details)
			}
		}
		if next == "" {
			return n
		}
		after = next
	}
}

func TestEncryptSealsWhatIsPlainAndNothingElse(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h, keys, strange := openHost(t, url), keyset(t, line()), keyset(t, line())
		ctx := t.Context()
		const n = 520 // more than a page, no whole number of transactions
		fill(t, h, n)
		others := map[catalog.TenantID]string{
			"empty": "", "file": "ref:file:a", "env": "ref:env:A", "sealed": sealed(t, keys, "sealed", good), "strange": sealed(t, strange, "strange", good),
			"broken": "enc:v1:x", "o'brien; --": "", "name with ü": "ref:env:B",
		}
		for id, uri := range others {
			must(t, h.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, DBURL: catalog.NewDBURI(uri)}))
		}
		must(t, h.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "Ünal's \\", DBURL: catalog.NewDBURI("words that are no URI")}))
		looked := 0
		done, err := Encrypt(ctx, h, keys, "", func(rows int) { looked += rows })
		if err != nil || done.Sealed != n+1 || done.AlreadySealed != 3 || done.References != 3 || done.Empty != 2 || done.Failures.Count != 0 || looked != n+9 {
			t.Fatalf("%+v, %d looked at, %v", done, looked, err)
		}
		o := opener(t, Config{Keys: keys})
		all := stored(t, h)
		for i := range n {
			uri, err := o.Open(ctx, idOf(i), all[idOf(i)])
			if err != nil || uri.Reveal() != uriOf(i) || FormOf(all[idOf(i)]) != Sealed {
				t.Fatalf("tenant %d: %v, %v", i, uri, err)
			}
		}
		for id, uri := range others {
			if all[id].Reveal() != uri {
				t.Errorf("%s became %s", id, all[id])
			}
		}
		if got := events(t, h, "tenant.encrypted"); got != n+1 {
			t.Errorf("%d audit rows", got)
		}
		again, err := Encrypt(ctx, h, keys, "", nil)
		if err != nil || again.Sealed != 0 || again.AlreadySealed != n+4 || events(t, h, "tenant.encrypted") != n+1 {
			t.Errorf("again: %+v, %v", again, err)
		}
		if _, err := Encrypt(ctx, h, keys, "nobody", nil); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("no such tenant: %v", err)
		}
		if _, err := Encrypt(ctx, h, seal.Keyset{}, "", nil); err == nil {
			t.Error("sealed under nothing")
		}
	})
}

func TestEncryptOneLeavesTheOthers(t *testing.T) {
	h, keys := openHost(t, "sqlite:"+t.TempDir()+"/host.db"), keyset(t, line())
	fill(t, h, 3)
	done, err := Encrypt(t.Context(), h, keys, idOf(1), nil)
	all := stored(t, h)
	if err != nil || done.Sealed != 1 || FormOf(all[idOf(1)]) != Sealed || all[idOf(0)].Reveal() != uriOf(0) || all[idOf(2)].Reveal() != uriOf(2) {
		t.Errorf("%+v, %v", done, err)
	}
}

// Another program, which knows nothing of seals, changes URIs all the while: none of its changes is lost, none is undone.
func TestEncryptBesideAWriterLosesNothing(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h, keys := openHost(t, url), keyset(t, line())
		other := openHost(t, url)
		ctx := t.Context()
		const n = 150
		fill(t, h, n)
		last := make([]string, n) // what the writer wrote last; only it touches it until it ends
		stop := make(chan struct{})
		var writers sync.WaitGroup
		wrote := 0
		writers.Go(func() {
			for round := 0; ; round++ {
				for k := range n {
					select {
					case <-stop:
						return
					default:
					}
					i := (k*37 + round) % n
					uri := fmt.Sprintf("postgresql://u:c4nary@db/t%d?round=%d", i, round)
					err := other.InTx(context.WithoutCancel(ctx), func(tx *catalog.Tx) error {
						return tx.Tenants.Update(context.WithoutCancel(ctx), &catalog.TenantCatalog{ID: idOf(i), DBURL: catalog.NewDBURI(uri), IsActive: new(true), PlanTier: new("free")})
					})
					if err != nil {
						t.Errorf("the writer: %v", err)
						return
					}
					last[i] = uri
					wrote++
					for range 10 { // as an app does, it mostly reads: on SQLite, who never stops writing lets nobody else
						if _, err := other.Tenants.Get(context.WithoutCancel(ctx), idOf(i)); err != nil {
							t.Errorf("the writer: %v", err)
							return
						}
					}
				}
			}
		})
		for range 3 {
			if done, err := Encrypt(ctx, h, keys, "", nil); err != nil || done.Failures.Count != 0 {
				t.Errorf("%+v, %v", done, err)
			}
		}
		close(stop)
		writers.Wait()
		if wrote == 0 {
			t.Fatal("nothing was written meanwhile")
		}
		if done, err := Encrypt(ctx, h, keys, "", nil); err != nil || done.Sealed+done.AlreadySealed != n {
			t.Errorf("%+v, %v", done, err)
		}
		for id, value := range stored(t, h) {
			var i int
			_, err := fmt.Sscanf(string(id), "t%d", &i)
			must(t, err)
			want := last[i]
			if want == "" {
				want = uriOf(i)
			}
			if uri, err := Unseal(keys, id, value); err != nil || uri.Reveal() != want {
				t.Errorf("%s: %v, %v; want %s", id, uri, err, want)
			}
		}
	})
}

// A row that another program keeps locked is waited for when all others of its transaction are done.
func TestEncryptWaitsForALockedRowWithNothingElseInHand(t *testing.T) {
	h, keys := openHost(t, pgURL(t)), keyset(t, line())
	ctx := t.Context()
	fill(t, h, 120)
	held, err := h.Begin(ctx)
	must(t, err)
	if ok, err := held.ReplaceSealed(ctx, catalog.SealedTenantURLs(), string(idOf(7)), text(uriOf(7)), text("postgresql://theirs/d"), true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	type outcome struct {
		done Encrypted
		err  error
	}
	ended := make(chan outcome, 1)
	go func() {
		done, err := Encrypt(ctx, h, keys, "", nil)
		ended <- outcome{done, err}
	}()
	deadline := time.After(2 * time.Minute)
	for sealed := 0; sealed < 49; { // the batch that the locked row is in does not wait for it
		select {
		case <-deadline:
			t.Fatal("a locked row holds up the others")
		case <-time.After(20 * time.Millisecond):
		}
		sealed = 0
		for _, v := range stored(t, h) {
			if FormOf(v) == Sealed {
				sealed++
			}
		}
	}
	must(t, held.Commit())
	if end := <-ended; end.err != nil || end.done.Sealed != 120 || end.done.Failures.Count != 0 {
		t.Fatalf("%+v, %v", end.done, end.err)
	}
	if uri, err := Unseal(keys, idOf(7), stored(t, h)[idOf(7)]); err != nil || uri.Reveal() != "postgresql://theirs/d" {
		t.Errorf("%v, %v", uri, err)
	}
}

// twoColumns are what the tests rotate: one with a row of the audit for each row, one with a row for many.
func twoColumns() []Column {
	return []Column{
		TenantURLs(),
		{SealedColumn: catalog.SealedIDTokens(), Purpose: func(id, _ string) string { return "token/" + id }},
	}
}

func TestRotateSealsAnewUnderTheFirstSecretWithWhatOpens(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openHost(t, url)
		ctx := t.Context()
		one, two := line(), line()
		old, both, after := keyset(t, one), keyset(t, two, one), keyset(t, two)
		const n = 120
		fill(t, h, n)
		must(t, errOf(Encrypt(ctx, h, old, "", nil)))
		must(t, h.InTx(ctx, func(tx *catalog.Tx) error {
			for i := range n {
				id := fmt.Sprintf("s%03d", i)
				token, err := old.Seal("token/"+id, []byte("c4nary of "+id))
				if err != nil {
					return err
				}
				if err := tx.Sessions.Insert(ctx, &catalog.Session{ID: catalog.SessionID(id), UserID: "u", Host: "h", MAC: "m", IDToken: token, ExpiresAt: "x"}); err != nil {
					return err
				}
			}
			return tx.Sessions.Insert(ctx, &catalog.Session{ID: "without", UserID: "u", Host: "h", MAC: "m", ExpiresAt: "x"})
		}))
		for id, uri := range map[catalog.TenantID]string{
			"plain": good, "reference": "ref:env:X", "new": sealed(t, after, "new", good), "strange": sealed(t, keyset(t, line()), "strange", good), "broken": "enc:v1:" + after.FirstID() + ":AAAA",
		} {
			must(t, h.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, DBURL: catalog.NewDBURI(uri)}))
		}
		before := stored(t, h)
		done, failures, err := Rotate(ctx, h, both, twoColumns(), nil)
		if err != nil || len(done) != 2 || done[0] != (Rotated{"core_tenants.db_url", n, 1, 2}) || done[1] != (Rotated{"sys_sessions.id_token", n, 0, 0}) {
			t.Fatalf("%+v, %v", done, err)
		}
		want := []Failure{{"core_tenants.db_url", "broken", seal.ErrBroken.Error()}, {"core_tenants.db_url", "strange", seal.ErrOtherSecret.Error()}}
		if failures.Count != 2 || len(failures.First) != 2 || failures.First[0] != want[0] || failures.First[1] != want[1] {
			t.Errorf("%+v", failures)
		}
		all := stored(t, h)
		for i := range n {
			if uri, err := Unseal(after, idOf(i), all[idOf(i)]); err != nil || uri.Reveal() != uriOf(i) {
				t.Fatalf("%v, %v", uri, err)
			}
		}
		for _, id := range []catalog.TenantID{"plain", "reference", "new", "strange", "broken"} {
			if all[id] != before[id] {
				t.Errorf("%s was changed", id)
			}
		}
		rows, err := h.SealedPage(ctx, catalog.SealedIDTokens(), "", 1000)
		must(t, err)
		for _, row := range rows {
			if row.ID == "without" {
				continue
			}
			if plain, err := after.Open("token/"+row.ID, row.Value.Reveal()); err != nil || string(plain) != "c4nary of "+row.ID {
				t.Fatalf("%s: %v", row.ID, err)
			}
		}
		if a, b := events(t, h, "tenant.resealed"), events(t, h, "key.rotated"); a != n || b != 3 {
			t.Errorf("%d and %d audit rows", a, b)
		}
		done, failures, err = Rotate(ctx, h, both, twoColumns(), nil)
		if err != nil || done[0] != (Rotated{"core_tenants.db_url", 0, n + 1, 2}) || done[1] != (Rotated{"sys_sessions.id_token", 0, n, 0}) || failures.Count != 2 {
			t.Errorf("again: %+v, %v", done, err)
		}
		if events(t, h, "tenant.resealed") != n {
			t.Error("again wrote to the audit")
		}
	})
}

// Two that rotate at once, and one that encrypts, end in one state.
func TestManyAtOnceEndInOneState(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openHost(t, url)
		ctx := t.Context()
		one, two := line(), line()
		old, both := keyset(t, one), keyset(t, two, one)
		const n = 120
		fill(t, h, n)
		for i := range n / 2 {
			must(t, errOf(Encrypt(ctx, h, old, idOf(2*i), nil)))
		}
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				var err error
				if i%2 == 0 {
					_, _, err = Rotate(ctx, h, both, twoColumns(), nil)
				} else {
					_, err = Encrypt(ctx, h, both, "", nil)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for id, value := range stored(t, h) {
			var i int
			_, err := fmt.Sscanf(string(id), "t%d", &i)
			must(t, err)
			if uri, err := Unseal(keyset(t, two), id, value); err != nil || uri.Reveal() != uriOf(i) {
				t.Errorf("%s: %v, %v", id, uri, err)
			}
		}
		if a, b := events(t, h, "tenant.encrypted"), events(t, h, "tenant.resealed"); a != n || b != n/2 {
			t.Errorf("%d sealed and %d sealed anew, in the audit", a, b)
		}
	})
}

func TestSweepEndsWithItsContext(t *testing.T) {
	h, keys := openHost(t, "sqlite:"+t.TempDir()+"/host.db"), keyset(t, line())
	fill(t, h, 200)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := Encrypt(ctx, h, keys, "", nil); err == nil || done.Sealed != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}
