package router

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// A hundred thousand users, each in a tenant of a hundred, with texts as long as they usually are: what a remembered
// grant takes, with its place in the cache and what it depends on.
func TestARememberedGrantTakesAKibibyte(t *testing.T) {
	const grants, bound = 100_000, 1 << 10
	policy := testPolicy(t, billing.Config{})
	co := cache.NewCoherence(cache.CoherenceConfig{Heartbeat: time.Minute, Entries: grants})
	co.Looked(time.Now())
	d := newDirectory(broken{}, policy, CacheConfig{Entries: grants}, co, time.Now)
	defer d.close()
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range grants {
		facts := payingFacts()
		user, tenant := catalog.UserID(fmt.Sprintf("%032x", i)), catalog.TenantID(fmt.Sprintf("%032x", i/100))
		facts.User = &catalog.GlobalUser{ID: user, Email: new(fmt.Sprintf("somebody.%d@example.com", i))}
		facts.Tenant.ID, facts.Tenant.Name = tenant, new(strings.Repeat("n", 24))
		facts.Tenant.DBURL = catalog.NewDBURI(fmt.Sprintf("postgresql://t_%d:0123456789abcdef0123456789abcdef@db.internal:5432/t_%d", i/100, i/100))
		facts.Memberships[0] = catalog.Membership{
			ID: catalog.MembershipID(fmt.Sprintf("%032x", i)), UserID: user, TenantID: tenant, Role: new("member"),
			ProfileID: new(fmt.Sprintf("%032x", i)), IsActive: new(true), CreatedAt: new("2026-01-01T00:00:00"),
		}
		facts.Plans = facts.Plans[:2]
		d.records.Put(recordKey{user: user, name: string(tenant), kind: byID}, policy.newRecord(facts))
	}
	each := float64(heap()-before) / grants
	t.Logf("%.0f bytes a grant", each)
	if n := d.records.Len(); n < grants*9/10 {
		t.Fatalf("%d grants are remembered", n)
	}
	if each > bound {
		t.Errorf("a remembered grant takes %.0f bytes, more than %d", each, bound)
	}
	runtime.KeepAlive(d)
}
