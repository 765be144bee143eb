package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// Defaults of CacheConfig, and maxAge, which bounds the age of a fact where nobody tells of changes.
const (
	DefaultTTL         = 5 * time.Minute
	DefaultNegativeTTL = 5 * time.Second
	maxAge             = 5 * time.Second
)

const (
	// loadTimeout is how long one decision waits for the host database.
	loadTimeout = time.Second
	// loads bounds the reads that wait for the host database at once, for each kind of answer.
	loads = 128
)

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
	// MembershipTenants lists the tenants of the user's membership rows, also those that do not exist.
	MembershipTenants(ctx context.Context, user catalog.UserID, limit int) ([]catalog.TenantID, error)
	// TenantSlugs gives a slug of each of the user's tenants that has one.
	TenantSlugs(ctx context.Context, user catalog.UserID) (map[catalog.TenantID]string, error)
}

// directory answers user × tenant → record, through memory. Keys are structs: two questions never share one (SF-1).
type directory struct {
	host    HostDatabase
	opener  Opener // nil: what is sealed or a reference is not usable
	policy  *Policy
	aliases map[string]string
	// coherence knows of changes; nil: nobody does.
	coherence *cache.Coherence
	records   *cache.Cache[recordKey, *Record]
	names     *cache.Cache[nameKey, catalog.TenantID]
	lists     *cache.Cache[catalog.UserID, *userTenants]
	loaded    func(ctx context.Context, kind string, took time.Duration, err error)
}

type recordKey struct {
	user catalog.UserID
	name string           // of the tenant
	kind catalog.NameKind // byID: name is the tenant's id and nothing else
}

const byID catalog.NameKind = -1

// tenant is the id asked for, "" where a name is.
func (k recordKey) tenant() catalog.TenantID {
	if k.kind == byID {
		return catalog.TenantID(k.name)
	}
	return ""
}

// query asks for the key's facts.
func (k recordKey) query(aliases map[string]string) catalog.GrantQuery {
	if k.kind == byID {
		return catalog.GrantQuery{User: k.user, Tenant: k.tenant(), Aliases: aliases}
	}
	return catalog.GrantQuery{User: k.user, Name: k.name, Kind: k.kind, Aliases: aliases}
}

type nameKey struct {
	name string
	kind catalog.NameKind
}

// userTenants are a user's memberships.
type userTenants struct {
	records []*Record
	tenants []catalog.TenantID // of all membership rows, whether such a tenant exists or not
}

func newDirectory(host HostDatabase, policy *Policy, cfg CacheConfig, coherence *cache.Coherence, clock func() time.Time) *directory {
	bounds := cache.Config{
		Entries: cfg.Entries, TTL: orDefault(cfg.TTL, DefaultTTL), NegativeTTL: orDefault(cfg.NegativeTTL, DefaultNegativeTTL),
		LoadTimeout: loadTimeout, Loads: loads, Clock: clock,
	}
	if coherence == nil {
		bounds.TTL, bounds.NegativeTTL = min(bounds.TTL, maxAge), min(bounds.NegativeTTL, maxAge)
	}
	if bounds.Entries == 0 {
		bounds.Entries = 100000
	}
	few := bounds
	few.Entries = max(bounds.Entries/10, 1)
	d := &directory{
		host: host, policy: policy, aliases: policy.rules.Aliases(), coherence: coherence,
		loaded: func(context.Context, string, time.Duration, error) {},
	}
	of := catalog.EveryTag(catalog.ChangedUser, catalog.ChangedBlock, catalog.ChangedMembership, catalog.ChangedTenant,
		catalog.ChangedLock, catalog.ChangedSubscription, catalog.ChangedPlan)
	named := catalog.EveryTag(catalog.ChangedTenant, catalog.ChangedDomain)
	d.records = cache.NewCoherent(bounds, cache.Depends[recordKey, *Record]{
		Coherence: coherence, On: slices.Concat(of, named), Tags: d.recordTags,
	})
	d.names = cache.NewCoherent(few, cache.Depends[nameKey, catalog.TenantID]{Coherence: coherence, On: named, Tags: nameTags})
	d.lists = cache.NewCoherent(few, cache.Depends[catalog.UserID, *userTenants]{Coherence: coherence, On: of, Tags: d.listTags})
	return d
}

func orDefault(d *time.Duration, byDefault time.Duration) time.Duration {
	if d == nil {
		return byDefault
	}
	return *d
}

// recordTags are what an answer about a user in a tenant depends on. What a name means may change by a row that has
// that name, or, where it means nothing yet, by the row of the tenant that it is a slug of.
func (d *directory) recordTags(tags []cache.Tag, key recordKey, r *Record, _ bool) []cache.Tag {
	tags = append(tags, catalog.UserTag(key.user))
	if key.kind != byID {
		tags = append(tags, catalog.NameTag(key.name))
		if r == nil || !r.tenantKnown {
			tags = append(tags, catalog.UnknownNameTag())
		}
	} else if key.tenant() != noTenant {
		tags = append(tags, catalog.TenantTag(key.tenant()))
	}
	return d.tenantTags(tags, r)
}

// tenantTags are what a record says of its tenant depends on, plans that do not exist yet included.
func (d *directory) tenantTags(tags []cache.Tag, r *Record) []cache.Tag {
	if r == nil || !r.tenantKnown {
		return tags
	}
	tags = append(tags, catalog.TenantTag(r.tenant.ID))
	for _, tier := range [...]string{text(r.tenantTier), r.subscription.Plan} {
		if tier == "" {
			continue
		}
		tags = append(tags, catalog.PlanTag(catalog.PlanID(tier)))
		if alias, ok := d.aliases[tier]; ok {
			tags = append(tags, catalog.PlanTag(catalog.PlanID(alias)))
		}
	}
	return tags
}

func nameTags(tags []cache.Tag, key nameKey, id catalog.TenantID, found bool) []cache.Tag {
	tags = append(tags, catalog.NameTag(key.name))
	if !found {
		return append(tags, catalog.UnknownNameTag())
	}
	return append(tags, catalog.TenantTag(id))
}

func (d *directory) listTags(tags []cache.Tag, user catalog.UserID, list *userTenants, _ bool) []cache.Tag {
	tags = append(tags, catalog.UserTag(user))
	if len(list.tenants) >= maxTenants {
		tags = append(tags, catalog.UnknownNameTag()) // there may be more that do not exist yet
	}
	for _, id := range list.tenants {
		tags = append(tags, catalog.TenantTag(id))
	}
	for _, r := range list.records {
		tags = d.tenantTags(tags, r)
	}
	return tags
}

func (d *directory) close() {
	d.records.Close()
	d.names.Close()
	d.lists.Close()
}

// byTenant returns what is known of the user in the tenant. The record is never nil without an error.
func (d *directory) byTenant(ctx context.Context, user catalog.UserID, tenant catalog.TenantID) (*Record, error) {
	return d.record(ctx, recordKey{user: user, name: string(tenant), kind: byID})
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
			return d.host.GrantFacts(ctx, key.query(d.aliases))
		})
		if err != nil {
			return nil, false, err
		}
		r := d.policy.newRecord(facts)
		if r.tenantKnown && key.kind == byID && r.tenant.ID != key.tenant() {
			return nil, false, errors.New("host database answered for another tenant")
		}
		if r.userKnown && r.user.ID != key.user {
			return nil, false, errors.New("host database answered for another user")
		}
		return r, !r.stranger() || key.tenant() == noTenant, nil
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
	list, found, err := d.lists.Get(ctx, user, func(ctx context.Context) (*userTenants, bool, error) {
		// First, so that what the second statement does not see has been noted.
		tenants, err := d.host.MembershipTenants(ctx, user, maxTenants)
		if err != nil {
			return nil, false, err
		}
		facts, err := timed(ctx, d, "tenants", func() ([]catalog.GrantFacts, error) {
			return d.host.UserGrants(ctx, user, d.aliases, maxTenants)
		})
		if err != nil {
			return nil, false, err
		}
		list := &userTenants{records: make([]*Record, 0, len(facts)), tenants: tenants}
		for _, f := range facts {
			list.records = append(list.records, d.policy.newRecord(f))
		}
		return list, len(list.records) > 0, nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("listing tenants: %w", err)
	case !found:
		return nil, nil
	}
	return list.records, nil
}

func timed[T any](ctx context.Context, d *directory, kind string, load func() (T, error)) (T, error) {
	start := time.Now()
	v, err := load()
	d.loaded(ctx, kind, time.Since(start), err)
	return v, err
}
