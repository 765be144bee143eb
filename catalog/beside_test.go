package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/fhsaas"
)

// Writers with fh-saas's own SQL, shapes and NULLs, several of their transactions open at once, some rolled back, and
// readers who stay idle in transaction, run beside tenantgate: nothing is lost on either side, and neither sees an error
// of the other's making. `go run ./bench -do beside` is the same for as long as one likes.
func TestTwoProgramsWriteSideBySide(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		a := openTest(t, url)
		// SQLite's writers poll for the lock and are served in no order: both programs leave it free most of the time, as
		// they do when people use them.
		theirs, ours, pace := 3, 3, 20*time.Millisecond
		if a.Engine() == EngineSQLite {
			theirs, ours, pace = 2, 1, 100*time.Millisecond
		}
		stop, end := context.WithCancel(t.Context())
		defer end()
		work := t.Context()
		errs := make(chan error, theirs+ours+2)
		var others, us sync.WaitGroup
		var writers []*fhsaas.Writer
		for i := range theirs {
			w := fhsaas.NewWriter(asFHSaas(t, url), fmt.Sprintf("theirs%d-", i))
			writers = append(writers, w)
			others.Go(func() { errs <- w.Run(stop, pace) })
		}
		others.Go(func() { errs <- fhsaas.Reader(stop, asFHSaas(t, url), 50*time.Millisecond) })
		// Both sides change one row, each its own column.
		must(t, a.Tenants.Insert(work, &TenantCatalog{ID: "shared", Name: new("0"), PlanTier: new("0")}))
		shared := asFHSaas(t, url)
		others.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for i := 1; i <= 20; i++ {
				<-tick.C
				if _, err := shared.ExecContext(work, "UPDATE core_tenants SET name = '"+strconv.Itoa(i)+"' WHERE core_tenants.id = 'shared'"); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		})
		const n = 12
		for i := range ours {
			us.Go(func() { errs <- signUps(work, a, i, n, pace) })
		}
		us.Wait()
		end()
		others.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		for _, w := range writers {
			must(t, w.Verify(work))
			if committed, rolledBack := w.Transactions(); committed == 0 || rolledBack == 0 && committed > 3 {
				t.Errorf("a writer committed %d and rolled back %d", committed, rolledBack)
			}
		}
		for i := range ours {
			for j := range n {
				id := UserID(fmt.Sprintf("ours%d-%03d", i, j))
				f, err := a.GrantFacts(work, GrantQuery{User: id, Tenant: "acme_corp"})
				if err != nil || f.User == nil || f.User.LastLogin == nil || len(f.Memberships) != 1 {
					t.Fatalf("%s: %+v, %v", id, f, err)
				}
			}
		}
		row, err := a.Tenants.Get(work, "shared")
		if err != nil || *row.Name != "20" || *row.PlanTier != strconv.Itoa(ours*n) {
			t.Errorf("the row that both changed: %+v, %v", row, err)
		}
	})
}

// signUps are n of tenantgate's own transactions: a user, the membership, the sign-in, and a change of the shared row.
func signUps(ctx context.Context, h *HostDatabase, who, n int, pace time.Duration) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for j := range n {
		<-tick.C
		id := UserID(fmt.Sprintf("ours%d-%03d", who, j))
		err := h.InTx(ctx, func(tx *Tx) error {
			if err := tx.LockUser(ctx, string(id)); err != nil {
				return err
			}
			return errors.Join(
				tx.GlobalUsers.Insert(ctx, &GlobalUser{ID: id, OAuthID: new(string(id))}),
				tx.RecordLogin(ctx, id, "2026-06-01T12:00:00"),
				tx.Memberships.Insert(ctx, &Membership{UserID: id, TenantID: "acme_corp"}))
		})
		if err != nil {
			return err
		}
		_, err = h.Tenants.Change(ctx, "shared", func(row *TenantCatalog) error {
			tier, err := strconv.Atoi(*row.PlanTier)
			row.PlanTier = new(strconv.Itoa(tier + 1))
			return err
		})
		if err != nil {
			return err
		}
		if _, err := h.GrantFacts(ctx, GrantQuery{User: id, Tenant: "acme_corp"}); err != nil {
			return err
		}
	}
	return nil
}

// asFHSaas opens the database as fh-saas does: psycopg2 speaks the simple protocol; Python's sqlite3 waits 5 s for a lock.
func asFHSaas(t *testing.T, url string) *sql.DB {
	t.Helper()
	if strings.HasPrefix(url, "sqlite:") {
		return rawDB(t, url+"?_pragma=busy_timeout(5000)")
	}
	return rawDB(t, url+"&default_query_exec_mode=simple_protocol")
}
