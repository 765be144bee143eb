package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

// feed gives rows to an import, one a line.
func feed[T any](rows ...T) func() (*T, int, error) {
	at := 0
	return func() (*T, int, error) {
		if at == len(rows) {
			return nil, 0, io.EOF
		}
		at++
		return &rows[at-1], at, nil
	}
}

// An import and single writes of the same pairs, subjects and names at once: each rule holds, whoever comes first.
func TestImportKeepsTheRulesBesideSingleWrites(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a, b := openTest(t, url), openTest(t, url)
		ctx := t.Context()
		must(t, a.Tenants.Insert(ctx, &TenantCatalog{ID: "owner"}))
		must(t, a.GlobalUsers.Insert(ctx, &GlobalUser{ID: "u"}))
		for _, i := range []string{"a", "b", "c", "d", "e", "f"} {
			must(t, a.Tenants.Insert(ctx, &TenantCatalog{ID: TenantID("t" + i)}))
			name := "n" + i
			for what, writes := range map[string][2]func() error{
				"membership": {
					func() error {
						m := a.Memberships.Blank()
						m.UserID, m.TenantID = "u", TenantID("t"+i)
						_, err := a.Memberships.Import(ctx, feed(m), false)
						return err
					},
					func() error { return b.Memberships.Insert(ctx, &Membership{UserID: "u", TenantID: TenantID("t" + i)}) },
				},
				"subject": {
					func() error {
						_, err := a.GlobalUsers.Import(ctx, feed(GlobalUser{OAuthID: &name}, GlobalUser{OAuthID: new("")}, GlobalUser{}), false)
						return err
					},
					func() error { return b.GlobalUsers.Insert(ctx, &GlobalUser{OAuthID: &name}) },
				},
				"name": {
					func() error {
						_, err := a.Tenants.Import(ctx, feed(TenantCatalog{ID: TenantID(name)}), false)
						return err
					},
					func() error { return b.Domains.Insert(ctx, &Domain{Host: DomainName(name), TenantID: "owner"}) },
				},
				"slug": {
					func() error {
						_, err := a.Domains.Import(ctx, feed(Domain{Host: DomainName("s" + i), TenantID: "owner"}), false)
						return err
					},
					func() error { return b.Tenants.Insert(ctx, &TenantCatalog{ID: TenantID("s" + i)}) },
				},
			} {
				errs := race(2, func(j int) error { return writes[j]() })
				if countNil(errs) != 1 {
					t.Fatalf("%s: %v", what, errs)
				}
				refused := errors.Join(errs...)
				if _, ok := errors.AsType[*ImportError](refused); !ok && !errors.Is(refused, ErrConflict) {
					t.Errorf("%s: the loser got %v", what, refused)
				}
			}
		}
		if n := len(page(t, a.Memberships.List, "")); n != 6 {
			t.Errorf("%d memberships", n)
		}
	})
}

// page lists the rows of an event, or all.
func page[T any](t *testing.T, list func(ctx context.Context, p Page) ([]T, string, error), event string) []T {
	t.Helper()
	p := Page{Limit: 1000}
	if event != "" {
		p.Filter = map[string]string{"event_type": event}
	}
	rows, _, err := list(t.Context(), p)
	must(t, err)
	return rows
}

func TestImportIsATransactionOfItsOwnAndEndsWithItsSource(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx := t.Context()
		err := h.InTx(ctx, func(tx *Tx) error {
			_, err := tx.Tenants.Import(ctx, feed[TenantCatalog](), false)
			return err
		})
		if err == nil {
			t.Error("an import in another transaction")
		}
		boom := errors.New("boom")
		for _, rows := range []int{0, 10, 2500} {
			n := 0
			_, err := h.Tenants.Import(ctx, func() (*TenantCatalog, int, error) {
				if n == rows {
					return nil, 0, boom
				}
				n++
				return &TenantCatalog{ID: TenantID(fmt.Sprint("t", n))}, n, nil
			}, false)
			if !errors.Is(err, boom) {
				t.Errorf("a source that fails: %v", err)
			}
		}
		if n := len(page(t, h.Tenants.List, "")) + len(page(t, h.AuditLogs.List, "tenant.created")); n != 0 {
			t.Errorf("%d rows are left", n)
		}
		n, err := h.Tenants.Import(ctx, feed(TenantCatalog{ID: "a"}, h.Tenants.Blank()), false)
		if err != nil || n != 2 {
			t.Fatalf("%d, %v", n, err)
		}
		if got, err := h.Tenants.Get(ctx, "a"); err != nil || got.IsActive != nil || got.CreatedAt != nil {
			t.Errorf("NULL became %+v, %v", got, err)
		}
	})
}
