package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/sealing"
)

// killing is a host database full of what encrypt and rotate work on, and what they may never lose.
type killing struct {
	t       *testing.T
	c       *cli
	host    *catalog.HostDatabase
	columns []sealing.Column // db_url, and sessions' ID tokens
	rows    int
	midway  int // kills that met an unfinished run
}

// SHOW-4. Killed at several moments, each time with some values done and some not, encrypt and rotate leave every value
// whole, each change with its audit row; run again they come to the same end.
func TestEncryptAndRotateSurviveKill(t *testing.T) {
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		killed(t, newCLI(t, pgtest.New(t)))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		killed(t, newCLI(t, sqliteURL(t)))
	})
}

func killed(t *testing.T, c *cli) {
	one, two := masterLine(1), masterLine(2)
	write := secretFileOf(t, c, one)
	host, err := catalog.Open(t.Context(), strings.TrimPrefix(c.environ[0], "TENANTGATE_HOST_DATABASE_URL="))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	k := &killing{t: t, c: c, host: host, columns: []sealing.Column{sealing.TenantURLs(), auth.SealedColumns()[1]}, rows: 400}
	k.fill(keysOf(t, one))
	k.kill(keysOf(t, one), k.columns[:1], "tenant.encrypted", "tenant", "encrypt", "--all", "--yes")
	write(two, one)
	k.kill(keysOf(t, two, one), k.columns, "tenant.resealed", "key", "rotate")
	write(two)
	if again := c.object("key", "rotate"); again["failed"] != float64(0) || again["resealed"] != float64(0) {
		t.Errorf("with the new line alone: %v", again)
	}
	if k.midway == 0 {
		t.Error("no kill met an unfinished run: nothing was shown")
	}
}

func keysOf(t testing.TB, lines ...string) seal.Keyset {
	t.Helper()
	keys, err := seal.ParseKeyset(secret.New(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func killURI(id string) string { return "postgresql://u:" + canary + "@db/" + id }

// fill makes tenants with plain URIs and sessions with sealed tokens.
func (k *killing) fill(keys seal.Keyset) {
	k.t.Helper()
	ctx := k.t.Context()
	err := k.host.InTx(ctx, func(tx *catalog.Tx) error {
		for i := range k.rows {
			id := fmt.Sprintf("r%04d", i)
			if err := tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(id), DBURL: catalog.NewDBURI(killURI(id))}); err != nil {
				return err
			}
			token, err := keys.Seal(k.columns[1].Purpose(id, ""), []byte("token of "+id))
			if err != nil {
				return err
			}
			if err := tx.Sessions.Insert(ctx, &catalog.Session{ID: catalog.SessionID(id), UserID: "u", Host: "h", MAC: "m", IDToken: token, ExpiresAt: "2999-01-01T00:00:00"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		k.t.Fatal(err)
	}
}

// kill runs a command three times, each time killed once so many values are done, then to its end.
func (k *killing) kill(keys seal.Keyset, columns []sealing.Column, event string, args ...string) {
	t := k.t
	t.Helper()
	total := len(columns) * k.rows
	for i := range 3 {
		cmd, _, errs := process(t, t.TempDir(), k.c.environ, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // killed, or done sooner
			close(ended)
		}()
		from := k.done(keys, columns)
		enough := from + 1 + rand.IntN(total/4)
		deadline := time.After(2 * time.Minute)
		for running := true; running && k.done(keys, columns) < enough; {
			select {
			case <-ended:
				running = false
			case <-deadline:
				t.Fatalf("%v does not end: %s", args, errs.String())
			case <-time.After(time.Millisecond):
			}
		}
		_ = cmd.Process.Kill()
		<-ended
		done := k.done(keys, columns)
		if done < total {
			k.midway++
		} else if i == 0 {
			t.Logf("the first kill came too late")
		}
		k.sameCount(event, keys, columns[:1])
	}
	k.c.ok(args...)
	if done := k.done(keys, columns); done != total {
		t.Errorf("%d of %d are done in the end", done, total)
	}
	if n := k.audited(event); n != k.rows {
		t.Errorf("%d audit rows for %d tenants", n, k.rows)
	}
}

// sameCount checks that as many changes are in the audit as were made. A transaction that the killed process had asked to
// commit may still end between the two looks.
func (k *killing) sameCount(event string, keys seal.Keyset, columns []sealing.Column) {
	k.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		audited, done := k.audited(event), k.done(keys, columns)
		if audited == done {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("killed with %d tenants done, %d of them in the audit", done, audited)
			return
		}
	}
}

// done counts the values that lie under the first secret, and checks that every value is there and whole.
func (k *killing) done(keys seal.Keyset, columns []sealing.Column) int {
	k.t.Helper()
	done := 0
	for i, column := range columns {
		rows, err := k.host.SealedPage(k.t.Context(), column.SealedColumn, "", k.rows+1)
		if err != nil || len(rows) != k.rows {
			k.t.Fatalf("%s: %d rows, %v", column.Name, len(rows), err)
		}
		for _, row := range rows {
			text, sealed := strings.CutPrefix(row.Value.Reveal(), column.Prefix)
			if sealed {
				plain, err := keys.Open(column.Purpose(row.ID, row.Detail), text)
				if err != nil {
					k.t.Fatalf("%s of %s: %v", column.Name, row.ID, err)
				}
				if keys.UnderFirst(text) {
					done++
				}
				text = string(plain)
			}
			if want := map[bool]string{true: killURI(row.ID), false: "token of " + row.ID}[i == 0]; text != want {
				k.t.Fatalf("%s of %s is lost", column.Name, row.ID)
			}
		}
	}
	return done
}

func (k *killing) audited(event string) int {
	k.t.Helper()
	n := 0
	for after := ""; ; {
		rows, next, err := k.host.AuditLogs.List(k.t.Context(), catalog.Page{After: after, Limit: 1000, Filter: map[string]string{"event_type": event}})
		if err != nil {
			k.t.Fatal(err)
		}
		n += len(rows)
		if next == "" {
			return n
		}
		after = next
	}
}
