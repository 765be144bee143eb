package catalog

import (
	"time"

	"github.com/tenantgate/tenantgate/cache"
)

// thing is what an answer read from the host database depends on: a row, or all rows of a kind, or that a name may
// come to mean something.
type thing struct {
	kind ChangeKind
	part part
	key  string
}

type part uint8

const (
	ofID      part = iota // the row, and all that stands for it
	ofSubject             // users with that oauth_id
	ofName                // what a name or host means
	ofAll                 // any row of the kind
	ofNames               // what names mean that mean nothing yet
)

func tagOf(kind ChangeKind, p part, key string) cache.Tag { return cache.TagOf(thing{kind, p, key}) }

// The tags of what answers from the host database depend on. A user's covers the user's row, block and memberships; a
// tenant's covers the tenant's row, locks, subscriptions and domains.

// UserTag is for answers about a user.
func UserTag(id UserID) cache.Tag { return tagOf(ChangedUser, ofID, string(id)) }

// SubjectTag is for answers about whose an oauth_id is.
func SubjectTag(oauthID string) cache.Tag { return tagOf(ChangedUser, ofSubject, oauthID) }

// TenantTag is for answers about a tenant.
func TenantTag(id TenantID) cache.Tag { return tagOf(ChangedTenant, ofID, string(id)) }

// NameTag is for answers about what a name means, as id, slug or host; ASCII case does not matter.
func NameTag(name string) cache.Tag { return tagOf(ChangedDomain, ofName, foldASCII(name)) }

// UnknownNameTag is for the answer that a name means nothing, or nobody: it may come to by a row that has another name.
func UnknownNameTag() cache.Tag { return tagOf(ChangedDomain, ofNames, "") }

// PlanTag is for answers about what a plan key gives.
func PlanTag(key PlanID) cache.Tag { return tagOf(ChangedPlan, ofID, string(key)) }

// SessionTag is for answers about a session.
func SessionTag(id SessionID) cache.Tag { return tagOf(ChangedSession, ofID, string(id)) }

// APITokenTag is for answers about a token.
func APITokenTag(id APITokenID) cache.Tag { return tagOf(ChangedToken, ofID, string(id)) }

// EveryTag is for all answers that were read from the tables of these kinds: each needs them beside its own.
func EveryTag(kinds ...ChangeKind) []cache.Tag {
	tags := make([]cache.Tag, 0, len(kinds))
	for _, k := range kinds {
		tags = append(tags, tagOf(k, ofAll, ""))
	}
	return tags
}

// tags appends what a change concerns; ok false: everything, for all that this program knows.
func (c *Change) tags(tags []cache.Tag) (_ []cache.Tag, ok bool) {
	if c.Every {
		tags = append(tags, tagOf(c.Kind, ofAll, ""))
		if c.Kind == ChangedTenant || c.Kind == ChangedDomain {
			tags = append(tags, UnknownNameTag())
		}
		return tags, true
	}
	switch c.Kind {
	case ChangedUser:
		return append(tags, UserTag(c.User), SubjectTag(c.Subject)), true
	case ChangedMembership, ChangedBlock:
		return append(tags, UserTag(c.User)), true
	case ChangedTenant:
		return append(tags, TenantTag(c.Tenant), NameTag(string(c.Tenant)), UnknownNameTag()), true
	case ChangedDomain:
		return append(tags, NameTag(c.ID), TenantTag(c.Tenant), UnknownNameTag()), true
	case ChangedSubscription, ChangedLock:
		return append(tags, TenantTag(c.Tenant)), true
	case ChangedPlan:
		return append(tags, PlanTag(PlanID(c.ID))), true
	case ChangedSession:
		return append(tags, SessionTag(SessionID(c.ID))), true
	case ChangedToken:
		return append(tags, APITokenTag(APITokenID(c.ID))), true
	}
	return tags, false
}

// Coherent makes caches forget what a Feed tells, and lets them answer while the Feed looks.
type Coherent struct {
	*cache.Coherence
	tags []cache.Tag // used again: the Feed has one goroutine
}

var _ LookSubscriber = (*Coherent)(nil)

// maxKeptTags bounds what is kept for the next look.
const maxKeptTags = 1 << 16

// Changed forgets what depends on the rows.
func (c *Coherent) Changed(changes []Change) {
	tags, known := c.tags[:0], true
	for i := range changes {
		var ok bool
		tags, ok = changes[i].tags(tags)
		known = known && ok
	}
	if known {
		c.Invalidate(tags...)
	} else {
		c.InvalidateAll()
	}
	if cap(tags) <= maxKeptTags {
		c.tags = tags
	}
}

// Reset forgets everything.
func (c *Coherent) Reset() { c.InvalidateAll() }

// Looked makes memory current from the beginning of the look on.
func (c *Coherent) Looked(began time.Time) { c.Coherence.Looked(began) }
