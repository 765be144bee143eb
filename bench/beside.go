package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/fhsaas"
)

// beside runs fh-saas's writes, several of its transactions open at once and some rolled back, a reader who stays idle in
// transaction, and tenantgate's writes, on one database; any error on either side, or anything lost, ends it with an error.
func beside(ctx context.Context, s hostSettings, d *hostDB) error {
	h, err := catalog.Open(ctx, d.url)
	if err != nil {
		return err
	}
	defer h.Close()
	stop, end := context.WithTimeout(ctx, s.duration)
	defer end()
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	var theirs []*fhsaas.Writer
	for i := range 4 {
		db, err := d.open()
		if err != nil {
			return err
		}
		defer db.Close()
		w := fhsaas.NewWriter(db, fmt.Sprintf("theirs%d-", i))
		theirs = append(theirs, w)
		wg.Go(func() { errs <- w.Run(stop, 20*time.Millisecond) })
	}
	reader, err := d.open()
	if err != nil {
		return err
	}
	defer reader.Close()
	wg.Go(func() { errs <- fhsaas.Reader(stop, reader, time.Second) })
	ours := make([]int, 4)
	for i := range ours {
		wg.Go(func() {
			for stop.Err() == nil {
				if err := signUp(context.WithoutCancel(ctx), h, ownID(i, ours[i])); err != nil {
					errs <- err
					return
				}
				ours[i]++
				_ = wait(stop, 20*time.Millisecond) // its end is looked at above
			}
		})
	}
	wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return errors.Join(err, countBeside(ctx, s, d, h, theirs, ours))
}

// countBeside looks for everything that either side committed, and says how much it was.
func countBeside(ctx context.Context, s hostSettings, d *hostDB, h *catalog.HostDatabase, theirs []*fhsaas.Writer, ours []int) (err error) {
	committed, rolledBack, written := 0, 0, 0
	for _, w := range theirs {
		c, r := w.Transactions()
		committed, rolledBack = committed+c, rolledBack+r
		err = errors.Join(err, w.Verify(ctx))
	}
	for i, n := range ours {
		written += n
		for j := range n {
			f, e := h.GrantFacts(ctx, catalog.GrantQuery{User: ownID(i, j), Tenant: "acme"})
			if e == nil && (f.User == nil || f.User.LastLogin == nil) {
				e = fmt.Errorf("lost: user %s", ownID(i, j))
			}
			err = errors.Join(err, e)
		}
	}
	fmt.Printf("beside, %s, %s: fh-saas committed %d transactions and rolled back %d, tenantgate committed %d\n",
		d.engine, s.duration, committed, rolledBack, written)
	return err
}

func ownID(who, n int) catalog.UserID { return catalog.UserID(fmt.Sprintf("ours%d-%06d", who, n)) }

// signUp is one of tenantgate's own transactions.
func signUp(ctx context.Context, h *catalog.HostDatabase, id catalog.UserID) error {
	return h.InTx(ctx, func(tx *catalog.Tx) error {
		if err := tx.LockUser(ctx, string(id)); err != nil {
			return err
		}
		return errors.Join(
			tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: id, OAuthID: new(string(id))}),
			tx.RecordLogin(ctx, id, "2026-06-01T12:00:00"),
			tx.Memberships.Insert(ctx, &catalog.Membership{UserID: id, TenantID: "acme"}))
	})
}
