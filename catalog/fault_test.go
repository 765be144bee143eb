package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestFactsTakeOneRoundTrip(t *testing.T) {
	w := newWire(t, newPostgres(t))
	h := openTest(t, w.url)
	seedGrants(t, h)
	ctx := t.Context()
	ask := map[string]func() error{
		"GrantFacts":  func() error { _, err := h.GrantFacts(ctx, GrantQuery{User: "ann", Name: "widgets"}); return err },
		"no tenant":   func() error { _, err := h.GrantFacts(ctx, GrantQuery{User: "ann", Name: "nothing"}); return err },
		"SessionUser": func() error { _, _, _, err := h.SessionUser(ctx, "none"); return ignore(err, ErrNotFound) },
		"UserGrants":  func() error { _, err := h.UserGrants(ctx, "ann", nil, 0); return err },
	}
	for name, f := range ask {
		must(t, f()) // the connection learns the statement
		before := w.trips.Load()
		must(t, f())
		if n := w.trips.Load() - before; n != 1 {
			t.Errorf("%s took %d round trips", name, n)
		}
	}
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

func TestOnlySuspectedConnectionsArePinged(t *testing.T) {
	var s suspicion
	if s.shouldPing(t.Context(), pgxpool.ShouldPingParams{IdleDuration: time.Hour}) {
		t.Error("an idle connection is pinged without a reason")
	}
	s.raise()
	if !s.shouldPing(t.Context(), pgxpool.ShouldPingParams{IdleDuration: time.Hour}) {
		t.Error("a connection that has been idle since before the breakage is not pinged")
	}
	s.since.Store(time.Now().Add(-time.Minute).UnixNano())
	if s.shouldPing(t.Context(), pgxpool.ShouldPingParams{IdleDuration: time.Second}) {
		t.Error("a connection that was used since the breakage is pinged")
	}
}

// All connections of a full pool die at once; nobody who reads notices.
func TestBrokenConnectionsHealUnnoticed(t *testing.T) {
	s := pgtest.NewServer(t)
	h := openTest(t, s.URL(t))
	seedGrants(t, h)
	all := func() {
		t.Helper()
		var wg sync.WaitGroup
		errs := make(chan error, 20)
		for range cap(errs) {
			wg.Go(func() {
				_, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			must(t, err)
		}
	}
	for range 3 {
		all()
		s.TerminateBackends(t)
	}
	all()
	s.TerminateBackends(t)
	must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "after"})) // BEGIN is tried anew as well
}

func TestServerThatIsDownIsUnavailableUntilItIsBack(t *testing.T) {
	s := pgtest.NewServer(t)
	h := openTest(t, s.URL(t))
	seedGrants(t, h)
	ctx := t.Context()
	s.Stop(t)
	for name, err := range map[string]error{
		"facts":   errOf(h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "t1"})),
		"ping":    h.Ping(ctx),
		"insert":  h.Tenants.Insert(ctx, &TenantCatalog{ID: "x"}),
		"begin":   errOf(h.Begin(ctx)),
		"open":    errOf(Open(ctx, h.URI())),
		"migrate": errOf(h.Migrate(ctx)),
	} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Start(t)
	must(t, h.Ping(ctx))
	f, err := h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "t1"})
	if err != nil || f.Tenant == nil {
		t.Errorf("after the restart: %+v, %v", f, err)
	}
}

func errOf[T any](_ T, err error) error { return err }

// FAIL-1: what a replica says may be old.
func TestServerInRecoveryCountsAsUnreachable(t *testing.T) {
	s := pgtest.NewServer(t)
	h := openTest(t, s.URL(t))
	seedGrants(t, h)
	s.Standby(t)
	_, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "recovery") {
		t.Errorf("facts from a replica: %v", err)
	}
	if _, err := Open(t.Context(), h.URI()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("open on a replica: %v", err)
	}
	s.Promote(t)
	must(t, h.Ping(t.Context()))
}

// A server that never answers costs a deadline, not a hang; the connection is not used again.
func TestSilentServerCostsADeadline(t *testing.T) {
	w := newWire(t, newPostgres(t))
	h := openTest(t, w.url)
	seedGrants(t, h)
	w.frozen.Store(true)
	begin := time.Now()
	_, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("facts: %v", err)
	}
	if d := time.Since(begin); d > patience { // it is silent for ever
		t.Errorf("took %s", d)
	}
	w.frozen.Store(false)
	f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"})
	if err != nil || f.Tenant == nil || f.Tenant.ID != "t1" {
		t.Errorf("after the silence: %+v, %v", f, err)
	}
}

func TestCancelledCallerIsNoOutage(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, err := range map[string]error{
			"facts":  errOf(h.GrantFacts(ctx, GrantQuery{User: "ann", Tenant: "t1"})),
			"insert": h.Tenants.Insert(ctx, &TenantCatalog{ID: "x"}),
			"begin":  errOf(h.Begin(ctx)),
		} {
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// One that ends in the middle takes its transaction along, and nothing else.
		ctx, cancel = context.WithCancel(t.Context())
		tx, err := h.Begin(ctx)
		must(t, err)
		must(t, tx.Tenants.Insert(ctx, &TenantCatalog{ID: "half"}))
		cancel()
		if err := tx.Commit(); err == nil {
			t.Error("a cancelled transaction was committed")
		}
		must(t, tx.Rollback())
		must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "whole"}))
		if _, err := h.Tenants.Get(t.Context(), "half"); !errors.Is(err, ErrNotFound) {
			t.Errorf("half: %v", err)
		}
	})
}

func TestClosedDatabaseAnswersNothing(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		must(t, h.Close())
		must(t, h.Close())
		if _, err := h.GrantFacts(t.Context(), GrantQuery{User: "u", Tenant: "t"}); err == nil {
			t.Error("facts from a closed database")
		}
		if err := h.InTx(t.Context(), func(*Tx) error { return nil }); err == nil {
			t.Error("a transaction on a closed database")
		}
	})
}

// A writer who waits inside a transaction for another transaction of the process gets an error, not a standstill.
func TestSecondWriterOnSQLiteWaitsNoLongerThanAllowed(t *testing.T) {
	h := openTest(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	tx, err := h.Begin(t.Context())
	must(t, err)
	must(t, tx.Tenants.Insert(t.Context(), &TenantCatalog{ID: "a"}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Tenants.Insert(ctx, &TenantCatalog{ID: "b"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("second writer: %v", err)
	}
	f, err := h.GrantFacts(t.Context(), GrantQuery{User: "u", Tenant: "a"})
	if err != nil || f.Tenant != nil {
		t.Errorf("a reader beside the writer: %+v, %v", f, err)
	}
	must(t, tx.Commit())
	must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "b"}))
}

// LEAK-3: every kind of failure is provoked with a canary in the URL, the password and the parameters.
func TestNoErrorShowsURLPasswordOrParameter(t *testing.T) {
	const canary = "c4nary"
	ctx := t.Context()
	server := pgtest.NewServer(t)
	good := server.URL(t)
	h := openTest(t, good)
	at := strings.TrimPrefix(good[strings.LastIndex(good, "@"):], "@")
	hostPort, _, _ := strings.Cut(at, "/")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, canary+".txt"), []byte("no database at all, only some text that is long enough"), 0o600))
	opens := []string{
		canary, "postgresql://u:" + canary + "@[::1", "postgresql://u:" + canary + "%zz@h/db", "postgresql://u:" + canary + "@h:port/db",
		"postgresql://u:" + canary + "@h/db?sslmode=" + canary, "postgresql://u:" + canary + "@h1,h2/db",
		"postgresql://u:" + canary + "@127.0.0.1:1/" + canary, "postgresql://" + canary + ":" + canary + "@" + hostPort + "/postgres",
		"postgresql://postgres:" + canary + "@" + hostPort + "/postgres", strings.Replace(good, at, hostPort+"/"+canary+"?sslmode=disable", 1),
		good + "&search_path=" + canary, good + "&" + canary + "=1", good + "&sslrootcert=/" + canary + "&sslmode=verify-full",
		"postgresql://u:" + canary + "@" + canary + ".invalid/db", "postgresql://u:" + canary + "@/db?host=/" + canary,
		"sqlite:" + filepath.Join(dir, canary, "x.db"), "sqlite:" + filepath.Join(dir, canary+".txt"), "sqlite:" + dir + "?" + canary,
		"sqlite:///" + canary + "?x", "mysql://u:" + canary + "@h/" + canary, "sqlite://" + canary,
	}
	var errs []error
	for _, u := range opens {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		db, err := Open(short, u)
		cancel()
		if err == nil {
			t.Errorf("opened with a fault: %d", len(errs))
			must(t, db.Close())
		}
		errs = append(errs, err)
	}
	big := new(int64(1 << 40))
	errs = append(
		errs,
		h.GlobalUsers.Insert(ctx, &GlobalUser{ID: canary + "\x00"}),
		h.PricingPlans.Insert(ctx, &PricingPlan{ID: canary, AmountMonthly: big}),
		errOf(h.GlobalUsers.Get(ctx, canary)),
		errOf(h.Tenants.Get(ctx, canary)),
		h.Tenants.Update(ctx, &TenantCatalog{ID: canary}),
		h.Sessions.Delete(ctx, canary),
		errOf3(h.GlobalUsers.List(ctx, Page{Filter: map[string]string{canary: canary}})),
		errOf3(h.GlobalUsers.List(ctx, Page{Filter: map[string]string{"is_sys_admin": canary}})),
		h.Domains.Insert(ctx, &Domain{Host: canary + "!", TenantID: canary, Kind: "slug"}),
		h.Domains.Insert(ctx, &Domain{Host: canary, TenantID: canary, Kind: "slug"}),
	)
	must(t, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: canary, OAuthID: new(canary)}))
	errs = append(errs, h.GlobalUsers.Insert(ctx, &GlobalUser{ID: canary}), h.GlobalUsers.Insert(ctx, &GlobalUser{OAuthID: new(canary)}))
	for _, text := range []string{
		"INSERT INTO core_users (id) VALUES ('" + canary + "')", "SELECT '" + canary + "'::int", "SELECT " + canary,
		"INSERT INTO core_users (oauth_id) VALUES (NULL)", "SELECT pg_sleep(0) FROM " + canary, "SELECT 1/0 AS " + canary, "SEL " + canary,
		"SET statement_timeout = '" + canary + "'", "DO $$ BEGIN RAISE EXCEPTION '" + canary + "'; END $$",
	} {
		errs = append(errs, h.InTx(ctx, func(tx *Tx) error { return errOf(tx.execText(ctx, "try", text)) }))
	}
	server.Stop(t)
	errs = append(errs, h.Ping(ctx), errOf(h.GrantFacts(ctx, GrantQuery{User: canary, Name: canary})))
	secret := strings.Split(strings.Split(good, ":")[2], "@")[0]
	for i, err := range errs {
		if err == nil {
			t.Errorf("failure %d was none", i)
			continue
		}
		for _, e := range flatten(err) {
			if text := e.Error(); strings.Contains(strings.ToLower(text), canary) || strings.Contains(text, secret) || strings.Contains(text, at) {
				t.Errorf("failure %d shows too much: %s", i, text)
			}
		}
	}
}

// LEAK-3: however it is printed, a database shows no password.
func TestHostDatabaseRedactsItself(t *testing.T) {
	h := openTest(t, newPostgres(t))
	secret := strings.Split(strings.Split(h.URI(), ":")[2], "@")[0]
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "host", h, "tables", &h.Tables.Sessions)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "host", h)
	text, err := json.Marshal(map[string]any{"host": h})
	must(t, err)
	shown := logged.String() + string(text) + h.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		shown += fmt.Sprintf(verb, h) + fmt.Sprintf(verb, []any{h}) + fmt.Sprintf(verb, &h.Tables)
	}
	err = h.InTx(t.Context(), func(tx *Tx) error {
		shown += fmt.Sprintf("%v %+v %#v", tx, tx, tx)
		return nil
	})
	must(t, err)
	if strings.Contains(shown, secret) || !strings.Contains(shown, "postgres:***@127.0.0.1") {
		t.Errorf("shown: %s", shown)
	}
}

func errOf3[A, B any](_ A, _ B, err error) error { return err }

// flatten returns err and everything that it wraps: a caller may print any of it.
func flatten(err error) []error {
	all := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = append(all, flatten(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, flatten(inner)...)
		}
	}
	return all
}
