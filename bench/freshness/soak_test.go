package freshness

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/faultwire"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

var soakFor = flag.Duration("soak", 25*time.Second, "how long TestSoak goes on")

// The soak's bounds: nothing older than both together may ever be answered.
const (
	soakHeartbeat = time.Second
	soakMaxStale  = 2 * time.Second
	soakUsers     = 4
	soakTenants   = 4
	soakEvery     = 10 * time.Millisecond // between requests to one replica
)

// pair is whose answer is asked for.
type pair struct{ user, tenant int }

// epoch is what was true of a pair, from the moment before the change that made it true to the moment after the one
// that ended it.
type epoch struct {
	from, to time.Time // to is zero while it lasts
	part     answerPart
}

// truth is the history of what was true, as the database itself tells it.
type truth struct {
	mu    sync.Mutex
	pairs map[pair][]epoch
}

func (h *truth) set(p pair, before, after time.Time, part answerPart) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.pairs[p]
	if n := len(list); n > 0 {
		if list[n-1].part == part {
			return
		}
		list[n-1].to = after
	}
	h.pairs[p] = append(list, epoch{from: before, part: part})
}

// age is how long before a request that answer had ceased to be true; ok false: it never was, or not yet.
func (h *truth) age(p pair, a answer, ended time.Time) (age time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.pairs[p]
	for i := len(list) - 1; i >= 0; i-- {
		e := list[i]
		if e.from.After(ended) || !e.part.fits(a.status, a.body) {
			continue
		}
		if e.to.IsZero() {
			return 0, true
		}
		return max(a.began.Sub(e.to), 0), true
	}
	return 0, false
}

// read asks the database what a request of that pair must be answered by. It shares no code with what is tested.
func (b *bed) read(ctx context.Context, p pair) (answerPart, error) {
	var user, blocked, locked, paid bool
	var member, active sql.NullBool
	var role, uri sql.NullString
	u, t := fmt.Sprint("u", p.user), fmt.Sprint("t", p.tenant)
	err := b.db.QueryRowContext(ctx, `SELECT
		EXISTS (SELECT 1 FROM core_users WHERE id = $1),
		EXISTS (SELECT 1 FROM tenantgate.sys_user_blocks WHERE user_id = $1),
		EXISTS (SELECT 1 FROM tenantgate.sys_tenant_locks WHERE tenant_id = $2),
		coalesce((SELECT status = 'active' FROM core_subscriptions WHERE tenant_id = $2 ORDER BY created_at DESC LIMIT 1), false),
		(SELECT is_active FROM core_memberships WHERE user_id = $1 AND tenant_id = $2),
		(SELECT role FROM core_memberships WHERE user_id = $1 AND tenant_id = $2),
		(SELECT is_active FROM core_tenants WHERE id = $2),
		(SELECT db_url FROM core_tenants WHERE id = $2)`, u, t).Scan(&user, &blocked, &locked, &paid, &member, &role, &active, &uri)
	switch {
	case err != nil:
		return answerPart{}, err
	case !user || blocked:
		return denied(403, "unknown_user"), nil
	case !member.Valid:
		return denied(403, "no_access"), nil
	case !member.Bool:
		return denied(403, "membership_inactive"), nil
	case !active.Bool:
		return denied(403, "tenant_inactive"), nil
	case locked:
		return denied(503, "tenant_paused"), nil
	case !paid:
		return denied(402, "subscription_required"), nil
	}
	return answerPart{200, fmt.Sprintf("tenant=%s uri=%s role=%s ", t, uri.String, role.String)}, nil
}

// soak is a run.
type soak struct {
	*bed
	server *pgtest.Server
	truth  truth
	wires  []*faultwire.Wire

	mu      sync.Mutex
	worlds  []*gatetest.World
	open    []given // answers that are not judged yet: what was true meanwhile is still being found out
	asked   int
	refused int // 503 host_database_unavailable, or no answer from a replica that is being restarted
	late    int // answers that had ceased to be true for longer than a heartbeat
	oldest  time.Duration
	wrong   []string
}

// given is an answer to be judged.
type given struct {
	answer
	replica int
	pair    pair
	ended   time.Time
}

// TestSoak changes rows, breaks connections, freezes them, stops the database and restarts replicas at random under
// steady load, and holds every answer against the history of what the database said.
func TestSoak(t *testing.T) {
	s := newSoak(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	for i := range s.worlds {
		group.Go(func() { s.load(ctx, i) })
	}
	group.Go(func() { s.changes(ctx, t) })
	faulty, end := context.WithTimeout(ctx, *soakFor)
	defer end()
	s.faults(faulty, t)
	for !s.enough() { // a busy machine needs longer for what proves anything
		pause(ctx, 50*time.Millisecond)
	}
	cancel()
	group.Wait()
	s.judge()
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("%d answers, %d refused, %d later than a heartbeat, the oldest %v after it had ceased to be true", s.asked, s.refused, s.late, s.oldest)
	for _, w := range s.wrong[:min(len(s.wrong), 20)] {
		t.Error(w)
	}
}

// enough is whether so many were answered, and judged, that the run proves something.
func (s *soak) enough() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	answered := s.asked - s.refused
	return answered >= int(soakFor.Seconds())*10 && answered >= s.refused
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	server := pgtest.NewServer(t)
	hostURL := server.URL(t)
	s := &soak{server: server, bed: newBed(t, hostURL, 1, nil), truth: truth{pairs: map[pair][]epoch{}}}
	for range 3 {
		u, err := url.Parse(hostURL)
		if err != nil {
			t.Fatal(err)
		}
		s.wires = append(s.wires, faultwire.New(t, u.Host))
		s.worlds = append(s.worlds, nil)
		s.restart(t, len(s.worlds)-1)
	}
	for u := range soakUsers {
		for tenant := range soakTenants {
			s.learn(t, pair{u, tenant}, time.Now())
		}
	}
	return s
}

// restart ends a replica, if there is one, and starts it anew behind its wire.
func (s *soak) restart(t *testing.T, i int) {
	t.Helper()
	s.mu.Lock()
	old := s.worlds[i]
	s.worlds[i] = nil
	s.mu.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			t.Error(err)
		}
	}
	u, err := url.Parse(s.hostURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = s.wires[i].Addr()
	stale := soakMaxStale
	w, err := gatetest.Start(context.WithoutCancel(t.Context()), gatetest.Options{
		HostURL: u.String(), App: app(), Provider: s.provider,
		Configure: func(c *config.Config) { c.Cache.Heartbeat, c.Cache.MaxStale = soakHeartbeat, &stale },
	})
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { _ = w.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worlds[i] = w
}

func (s *soak) world(i int) *gatetest.World {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worlds[i]
}

// learn notes what the database says of a pair since a moment.
func (s *soak) learn(t *testing.T, p pair, before time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	part, err := s.read(ctx, p)
	for err != nil && ctx.Err() == nil {
		pause(ctx, 50*time.Millisecond)
		part, err = s.read(ctx, p)
	}
	if err != nil {
		t.Errorf("the checker could not read: %v", err)
		return
	}
	s.truth.set(p, before, time.Now(), part)
}

// load asks one replica as one of the people for one of the tenants, again and again.
func (s *soak) load(ctx context.Context, i int) {
	slots := make(chan struct{}, maxUnderWay)
	var group sync.WaitGroup
	defer group.Wait()
	transport := s.replicas[0].Transport()
	transport.MaxIdleConnsPerHost = maxUnderWay
	defer transport.CloseIdleConnections()
	tick := time.NewTicker(soakEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w := s.world(i)
		if w == nil {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		p := pair{rand.IntN(soakUsers), rand.IntN(soakTenants)}
		group.Go(func() {
			defer func() { <-slots }()
			a := fetch(context.WithoutCancel(ctx), transport, fmt.Sprintf("%s/t/t%d/x", w.URL, p.tenant), http.Header{"Cookie": {s.cookies[p.user]}})
			s.mu.Lock()
			defer s.mu.Unlock()
			s.open = append(s.open, given{a, i, p, time.Now()})
		})
	}
}

// judge holds all that was answered so far against the history, which is complete while nothing is being changed.
func (s *soak) judge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.open {
		s.asked++
		if a.err != nil || strings.Contains(a.body, `"code":"host_database_unavailable"`) {
			s.refused++
			continue
		}
		age, ok := s.truth.age(a.pair, a.answer, a.ended)
		who := fmt.Sprintf("replica %d, u%d in t%d", a.replica, a.pair.user, a.pair.tenant)
		switch s.oldest = max(s.oldest, age); {
		case !ok:
			s.wrong = append(s.wrong, fmt.Sprintf("%s: never true: %d %.300s", who, a.status, a.body))
		case age > soakHeartbeat+soakMaxStale:
			s.wrong = append(s.wrong, fmt.Sprintf("%s: not true for %v: %d %.300s", who, age, a.status, a.body))
		case age > soakHeartbeat:
			s.late++
		}
	}
	s.open = s.open[:0]
}

// changes changes one thing of a random pair every now and then.
func (s *soak) changes(ctx context.Context, t *testing.T) {
	failed := 0
	defer func() { t.Logf("changes that broke off: %d", failed) }()
	for n := 0; ctx.Err() == nil; n++ {
		p := pair{rand.IntN(soakUsers), rand.IntN(soakTenants)}
		u, tenant := fmt.Sprint("u", p.user), fmt.Sprint("t", p.tenant)
		all := [][2]any{
			{"UPDATE core_memberships SET is_active = NOT is_active WHERE user_id = $1 AND tenant_id = $2", 2},
			{"UPDATE core_memberships SET role = CASE role WHEN 'member' THEN 'admin' ELSE 'member' END WHERE user_id = $1 AND tenant_id = $2", 2},
			{"UPDATE core_tenants SET is_active = NOT is_active WHERE id = $1", 1},
			{fmt.Sprintf("UPDATE core_tenants SET db_url = 'postgresql://n%d@db/x' WHERE id = $1", n), 1},
			{"UPDATE core_subscriptions SET status = CASE status WHEN 'active' THEN 'canceled' ELSE 'active' END WHERE tenant_id = $1", 1},
			{"INSERT INTO tenantgate.sys_tenant_locks (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", 1},
			{"DELETE FROM tenantgate.sys_tenant_locks WHERE tenant_id = $1", 1},
			{"INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ($1) ON CONFLICT DO NOTHING", 0},
			{"DELETE FROM tenantgate.sys_user_blocks WHERE user_id = $1", 0},
		}
		one := all[rand.IntN(len(all))]
		args := []any{u, tenant}
		switch one[1] {
		case 0:
			args = args[:1]
		case 1:
			args = args[1:]
		}
		before := time.Now()
		// With a connection that breaks it is unknown whether the change happened: the database says.
		if _, err := s.db.ExecContext(context.WithoutCancel(ctx), one[0].(string), args...); err != nil {
			failed++
		}
		for other := range max(soakUsers, soakTenants) { // whoever the change concerns
			s.learn(t, pair{p.user, other % soakTenants}, before)
			s.learn(t, pair{other % soakUsers, p.tenant}, before)
		}
		s.judge()
		pause(ctx, time.Duration(20+rand.IntN(400))*time.Millisecond)
	}
}

// faults breaks one thing after the other, with quiet spells between.
func (s *soak) faults(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(1+rand.IntN(3))*time.Second)
		i := rand.IntN(len(s.wires))
		w, long := s.wires[i], time.Duration(200+rand.IntN(4000))*time.Millisecond
		switch rand.IntN(7) {
		case 0:
			w.Cut()
			pause(ctx, long)
			w.Heal()
		case 1, 2:
			w.Freeze()
			pause(ctx, long)
			w.Heal()
		case 3:
			w.Drop()
		case 4:
			s.server.TerminateBackends(t)
		case 5:
			s.restart(t, i)
		case 6:
			s.server.Stop(t)
			pause(ctx, long)
			s.server.Start(t)
		}
	}
	for _, w := range s.wires {
		w.Heal()
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
