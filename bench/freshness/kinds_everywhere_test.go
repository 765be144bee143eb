package freshness

import (
	"context"
	"database/sql"
	"testing"
	"time"
)

// Every kind of change, by every program that may make it, is in force on every replica; what is not committed, or
// rolled back, never is.
func TestEveryKindOfChangeIsInForceOnEveryReplica(t *testing.T) {
	engines(t, func(tb testing.TB, hostURL string) {
		tb.(*testing.T).Parallel()
		b := newBed(tb, hostURL, 2, nil)
		token := b.token(tb)
		b.keep(tb)
		foreign := b.asForeign(tb)
		for _, k := range kinds() {
			tb.(*testing.T).Run(k.name, func(t *testing.T) {
				w := b.watch(t, k.path, b.credentials(t, &k, token), 5*time.Millisecond)
				defer w.close()
				w.settled(t, k.shows[0])
				sources := []*sql.DB{b.db}
				if foreign != nil && k.foreign {
					sources = append(sources, foreign)
				}
				for i, db := range sources {
					b.undone(t, w, db, &k, i == 1)
					for _, state := range []int{1, 0} {
						w.forget()
						at := b.change(t, db, k.statements(b, state, i == 1))
						w.lag(t, at, k.shows[1-state], k.shows[state])
						w.forget()
						w.settled(t, k.shows[state])
					}
				}
			})
		}
	})
}

// undone makes a change in a transaction, lets every replica answer beside it, rolls it back and lets them answer again.
func (b *bed) undone(t *testing.T, w *watcher, db *sql.DB, k *kind, foreign bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, s := range k.statements(b, 1, foreign) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []func() error{nil, tx.Rollback} {
		if end != nil {
			if err := end(); err != nil {
				t.Fatal(err)
			}
		}
		w.forget()
		w.settled(t, k.shows[0])
		if fault := w.never(k.shows[1]); fault != "" {
			t.Fatal(fault)
		}
	}
}
