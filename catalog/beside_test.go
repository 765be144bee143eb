package catalog

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A writer with fh-saas's own SQL, shapes and NULLs, and tenantgate, write side by side: nothing is lost on either side,
// and neither sees an error of the other's making.
func TestTwoProgramsWriteSideBySide(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		other := rawDB(t, url)
		if strings.HasPrefix(url, "sqlite:") {
			other.SetMaxOpenConns(1)
			_, err := other.ExecContext(t.Context(), "PRAGMA busy_timeout = 5000") // Python's default
			must(t, err)
		}
		h := openTest(t, url)
		ctx := t.Context()
		const n = 60
		var wg sync.WaitGroup
		errs := make(chan error, 6*n)
		wg.Go(func() {
			for i := range n {
				id := fmt.Sprintf("theirs%03d", i)
				for _, text := range []string{
					"INSERT INTO core_users (id, email, oauth_id, password_hash, stripe_cust_id, is_sys_admin, created_at, last_login) VALUES ('" + id + "', NULL, '" + id + "', NULL, NULL, NULL, NULL, NULL)",
					"UPDATE core_users SET last_login = '2026-06-01T12:00:00' WHERE id = '" + id + "'",
					"INSERT INTO core_memberships (id, user_id, tenant_id, profile_id, meta_attributes, role, is_active, created_at) VALUES ('" + id + "', '" + id + "', 'acme_corp', NULL, NULL, 'member', true, NULL)",
				} {
					_, err := other.ExecContext(ctx, text)
					errs <- err
				}
			}
		})
		wg.Go(func() {
			for i := range n {
				id := UserID(fmt.Sprintf("ours%03d", i))
				errs <- errors.Join(
					h.GlobalUsers.Insert(ctx, &GlobalUser{ID: id, OAuthID: new(string(id))}),
					h.RecordLogin(ctx, id, "2026-06-01T12:00:00"),
					h.Memberships.Insert(ctx, &Membership{UserID: id, TenantID: "acme_corp"}))
				_, err := h.GrantFacts(ctx, GrantQuery{User: id, Tenant: "acme_corp"})
				errs <- err
			}
		})
		wg.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		for i := range n {
			for _, who := range []string{"ours", "theirs"} {
				id := UserID(fmt.Sprintf("%s%03d", who, i))
				f, err := h.GrantFacts(ctx, GrantQuery{User: id, Tenant: "acme_corp"})
				if err != nil || f.User == nil || f.User.LastLogin == nil || len(f.Memberships) != 1 {
					t.Fatalf("%s: %+v, %v", id, f, err)
				}
			}
		}
	})
}
