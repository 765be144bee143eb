package catalog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

func hotSealed() map[string][]string {
	return map[string][]string{
		"sealed_tenants_page": {"'t9'", "50"}, "sealed_keys_page": {"'k9'", "50"}, "sealed_id_tokens_page": {"'s9'", "50"},
		"sealed_tenants_get": {"'t9'"}, "sealed_keys_get": {"'k9'"}, "sealed_id_tokens_get": {"'s9'"},
		"sealed_tenants_put": {"'t9'", "'a'", "'b'"}, "sealed_keys_put": {"'k9'", "'a'", "'b'"}, "sealed_id_tokens_put": {"'s9'", "'a'", "'b'"},
		"sealed_tenants_put_waiting": {"'t9'", "'a'", "'b'"}, "sealed_keys_put_waiting": {"'k9'", "'a'", "'b'"}, "sealed_id_tokens_put_waiting": {"'s9'", "'a'", "'b'"},
	}
}

// sealedColumns are all; each has a row with the id "one" whose value is "was".
func sealedColumns(t *testing.T, h *HostDatabase) []SealedColumn {
	t.Helper()
	ctx := t.Context()
	must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "one", DBURL: NewDBURI("was")}))
	must(t, h.Tenants.Insert(ctx, &TenantCatalog{ID: "two"}))
	must(t, h.Sessions.Insert(ctx, &Session{ID: "one", UserID: "u", Host: "h", MAC: "m", IDToken: "was", ExpiresAt: "x"}))
	_, err := h.Keys.Ensure(ctx, "p", func() (string, string, error) { return "one", "was", nil })
	must(t, err)
	return []SealedColumn{SealedTenantURLs(), SealedKeys(), SealedIDTokens()}
}

func TestSealedValueIsReplacedOnlyWhileItIsTheOneThatWasRead(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		for _, column := range sealedColumns(t, h) {
			v, err := h.SealedGet(ctx, column, "one")
			if err != nil || v.Value.Reveal() != "was" || (v.Detail == "p") != (column == SealedKeys()) {
				t.Fatalf("%s: %+v, %v", column.Name, v, err)
			}
			if _, err := h.SealedGet(ctx, column, "nobody"); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: absent: %v", column.Name, err)
			}
			last := "was"
			for _, wait := range []bool{false, true} {
				for _, c := range []struct {
					id, was, is string
					want        bool
				}{{"one", "other", "is", false}, {"nobody", last, "is", false}, {"one", last, last + "+", true}, {"one", last, "is", false}} {
					must(t, h.InTx(ctx, func(tx *Tx) error {
						got, err := tx.ReplaceSealed(ctx, column, c.id, secret.New(c.was), secret.New(c.is), wait)
						if got != c.want {
							t.Errorf("%s: %+v, wait %v: %v", column.Name, c, wait, got)
						}
						return err
					}))
				}
				last += "+"
			}
			page, err := h.SealedPage(ctx, column, "", 10)
			if err != nil || page[0].ID != "one" || page[0].Value.Reveal() != "was++" {
				t.Errorf("%s: %+v, %v", column.Name, page, err)
			}
			if page, err = h.SealedPage(ctx, column, "two", 10); err != nil || len(page) != 0 {
				t.Errorf("%s: behind the last: %+v, %v", column.Name, page, err)
			}
		}
	})
}

// Another program holds a row in an open transaction: a transaction of many rows passes it over at once, so that the two
// never wait for each other in a circle.
func TestLockedRowIsPassedOver(t *testing.T) {
	h := openTest(t, newPostgres(t))
	ctx := t.Context()
	for _, column := range sealedColumns(t, h) {
		held, err := h.Begin(ctx)
		must(t, err)
		if ok, err := held.ReplaceSealed(ctx, column, "one", secret.New("was"), secret.New("theirs"), true); !ok || err != nil {
			t.Fatal(ok, err)
		}
		must(t, h.InTx(ctx, func(tx *Tx) error {
			ok, err := tx.ReplaceSealed(ctx, column, "one", secret.New("was"), secret.New("ours"), false)
			if ok {
				t.Errorf("%s: a locked row was changed", column.Name)
			}
			return err
		}))
		waiting, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		err = h.InTx(ctx, func(tx *Tx) error {
			_, err := tx.ReplaceSealed(waiting, column, "one", secret.New("was"), secret.New("ours"), true)
			return err
		})
		cancel()
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: waiting for a locked row: %v", column.Name, err)
		}
		must(t, held.Commit())
		v, err := h.SealedGet(ctx, column, "one")
		if err != nil || v.Value.Reveal() != "theirs" {
			t.Errorf("%s: %v", column.Name, err)
		}
	}
}
