package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// maxAge bounds how old a remembered fact may be until changes are announced to replicas: whatever cache.ttl says,
// a committed change is in force everywhere within 5 s.
const maxAge = 4 * time.Second

// maxTenants bounds the memberships of one user that are listed; those beyond it are reached by naming them.
const maxTenants = 1000

// HostDatabase is what the directory reads. An error means that the question could not be answered, never "no".
type HostDatabase interface {
	// GrantFacts answers in one statement, the same whether the tenant exists, is the user's, or not.
	GrantFacts(ctx context.Context, q catalog.GrantQuery) (catalog.GrantFacts, error)
	// UserGrants lists what the user has a membership row in.
	UserGrants(ctx context.Context, user catalog.UserID, aliases map[string]string, limit int) ([]catalog.GrantFacts, error)
	// ResolveTenant says which tenant a name means; false if none.
	ResolveTenant(ctx context.Context, name string, kind catalog.NameKind) (catalog.TenantID, bool, error)
}

// directory answers user × tenant → record, through memory. Keys are structs: two questions never share one (SF-1).
type directory struct {
	host    HostDatabase
	opener  Opener // nil: what is sealed or a reference is not usable
	policy  *Policy
	aliases map[string]string
	records *cache.Cache[recordKey, *Record]
	names   *cache.Cache[nameKey, catalog.TenantID]
	lists   *cache.Cache[catalog.UserID, []*Record]
	loaded  func(ctx context.Context, kind string, took time.Duration, err error)
}

type recordKey struct {
	user   catalog.UserID
	tenant catalog.TenantID // "" where the name is asked for
	name   string
	kind   catalog.NameKind
}

type nameKey struct {
	name string
	kind catalog.NameKind
}

func newDirectory(host HostDatabase, policy *Policy, cfg CacheConfig, clock func() time.Time) *directory {
	ttl, negative := maxAge, maxAge
	if cfg.TTL != nil {
		ttl = min(ttl, *cfg.TTL)
	}
	if cfg.NegativeTTL != nil {
		negative = min(negative, *cfg.NegativeTTL)
	}
	entries := cfg.Entries
	if entries == 0 {
		entries = 100000
	}
	bounds := cache.Config{Entries: entries, TTL: ttl, NegativeTTL: negative, LoadTimeout: time.Second, Clock: clock}
	few := bounds
	few.Entries = max(entries/10, 1)
	return &directory{
		host: host, policy: policy, aliases: policy.rules.Aliases(),
		records: cache.New[recordKey, *Record](bounds),
		names:   cache.New[nameKey, catalog.TenantID](few),
		lists:   cache.New[catalog.UserID, []*Record](few),
		loaded:  func(context.Context, string, time.Duration, error) {},
	}
}

func (d *directory) close() {
	d.records.Close()
	d.names.Close()
	d.lists.Close()
}

// byTenant returns what is known of the user in the tenant. The record is never nil without an error.
func (d *directory) byTenant(ctx context.Context, user catalog.UserID, tenant catalog.TenantID) (*Record, error) {
	return d.record(ctx, recordKey{user: user, tenant: tenant})
}

// byName is byTenant for a name that a request used: one round trip where nothing is remembered.
func (d *directory) byName(ctx context.Context, user catalog.UserID, n Named) (*Record, error) {
	return d.record(ctx, recordKey{user: user, name: n.queryable(), kind: n.Kind})
}

func (d *directory) record(ctx context.Context, key recordKey) (*Record, error) {
	if r, found, ok := d.records.Lookup(key); ok && found {
		return r, nil
	}
	r, found, err := d.records.Get(ctx, key, func(ctx context.Context) (*Record, bool, error) {
		facts, err := timed(ctx, d, "grant", func() (catalog.GrantFacts, error) {
			return d.host.GrantFacts(ctx, catalog.GrantQuery{
				User: key.user, Tenant: key.tenant, Name: key.name, Kind: key.kind, Aliases: d.aliases,
			})
		})
		if err != nil {
			return nil, false, err
		}
		r := d.policy.newRecord(facts)
		if r.tenantKnown && key.tenant != "" && r.tenant.ID != key.tenant {
			return nil, false, errors.New("host database answered for another tenant")
		}
		if r.userKnown && r.user.ID != key.user {
			return nil, false, errors.New("host database answered for another user")
		}
		return r, !r.stranger() || key.tenant == noTenant, nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking up grant: %w", err)
	case !found:
		return strangerRecord, nil
	}
	return r, nil
}

// strangerRecord stands for every known user in every tenant that does not exist or is not the user's: the two are
// alike from here on.
var strangerRecord = &Record{userKnown: true}

// stranger reports whether the record says no more than strangerRecord.
func (r *Record) stranger() bool {
	return r.userKnown && !r.blocked && (!r.tenantKnown || r.member == noMembership)
}

// resolve says which tenant a name means, "" if none.
func (d *directory) resolve(ctx context.Context, n Named) (catalog.TenantID, error) {
	name := n.queryable()
	id, found, err := d.names.Get(ctx, nameKey{name, n.Kind}, func(ctx context.Context) (catalog.TenantID, bool, error) {
		start := time.Now()
		id, found, err := d.host.ResolveTenant(ctx, name, n.Kind)
		d.loaded(ctx, "name", time.Since(start), err)
		return id, found, err
	})
	if err != nil {
		return "", fmt.Errorf("looking up tenant name: %w", err)
	}
	if !found {
		return "", nil
	}
	return id, nil
}

// list returns a record for each tenant in which the user has a membership row.
func (d *directory) list(ctx context.Context, user catalog.UserID) ([]*Record, error) {
	records, _, err := d.lists.Get(ctx, user, func(ctx context.Context) ([]*Record, bool, error) {
		facts, err := timed(ctx, d, "tenants", func() ([]catalog.GrantFacts, error) {
			return d.host.UserGrants(ctx, user, d.aliases, maxTenants)
		})
		if err != nil {
			return nil, false, err
		}
		records := make([]*Record, 0, len(facts))
		for _, f := range facts {
			records = append(records, d.policy.newRecord(f))
		}
		return records, len(records) > 0, nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing tenants: %w", err)
	}
	return records, nil
}

func timed[T any](ctx context.Context, d *directory, kind string, load func() (T, error)) (T, error) {
	start := time.Now()
	v, err := load()
	d.loaded(ctx, kind, time.Since(start), err)
	return v, err
}
