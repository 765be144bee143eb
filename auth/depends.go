package auth

import (
	"time"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// What facts depend on: they are forgotten when that changes, the fact that there is none included.

// factsAge is how long facts are used, of what the configuration says.
func factsAge(deps Deps, asked time.Duration) time.Duration {
	if asked == 0 || asked > maxFactsAge && deps.Coherence == nil {
		return maxFactsAge
	}
	return asked
}

func sessionDepends(c *cache.Coherence) cache.Depends[sessionKey, *sessionFacts] {
	return cache.Depends[sessionKey, *sessionFacts]{
		Coherence: c, On: catalog.EveryTag(catalog.ChangedSession, catalog.ChangedUser, catalog.ChangedBlock),
		Tags: func(tags []cache.Tag, key sessionKey, f *sessionFacts, found bool) []cache.Tag {
			tags = append(tags, catalog.SessionTag(sessionIDOf(key)))
			if found {
				tags = append(tags, catalog.UserTag(f.row.UserID))
			}
			return tags
		},
	}
}

func apiTokenDepends(c *cache.Coherence) cache.Depends[apiKey, *apiTokenFacts] {
	return cache.Depends[apiKey, *apiTokenFacts]{
		Coherence: c, On: catalog.EveryTag(catalog.ChangedToken, catalog.ChangedUser, catalog.ChangedBlock),
		Tags: func(tags []cache.Tag, key apiKey, f *apiTokenFacts, found bool) []cache.Tag {
			tags = append(tags, catalog.APITokenTag(apiTokenIDOf(key)))
			if found {
				tags = append(tags, catalog.UserTag(f.row.UserID))
			}
			return tags
		},
	}
}

func subjectDepends(c *cache.Coherence) cache.Depends[string, subjectFacts] {
	return cache.Depends[string, subjectFacts]{
		Coherence: c, On: catalog.EveryTag(catalog.ChangedUser, catalog.ChangedBlock),
		Tags: func(tags []cache.Tag, oauthID string, s subjectFacts, found bool) []cache.Tag {
			tags = append(tags, catalog.SubjectTag(oauthID))
			if found {
				tags = append(tags, catalog.UserTag(s.user))
			}
			return tags
		},
	}
}

func domainDepends(c *cache.Coherence) cache.Depends[string, catalog.TenantID] {
	return cache.Depends[string, catalog.TenantID]{
		Coherence: c, On: catalog.EveryTag(catalog.ChangedDomain, catalog.ChangedTenant),
		Tags: func(tags []cache.Tag, host string, id catalog.TenantID, found bool) []cache.Tag {
			tags = append(tags, catalog.NameTag(host))
			if !found {
				return append(tags, catalog.UnknownNameTag())
			}
			return append(tags, catalog.TenantTag(id))
		},
	}
}
