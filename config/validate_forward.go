package config

import (
	"slices"
	"strings"
	"time"
)

// Bounds of an assertion's life: its times are whole seconds and it is renewed at half of it; a stolen one is good until
// it expires.
const (
	minAssertion = 2 * time.Second
	maxAssertion = time.Hour
)

// access judges roles and subscription.
func (v *validator) access() {
	s := &v.c.Subscription
	for i, role := range v.c.Roles {
		if hasControl(role) || strings.TrimSpace(role) != role {
			v.bad(indexPath("roles", i), "must be plain text without space around it")
		}
	}
	if slices.Contains(s.ExemptPlans, s.FreePlan) {
		v.bad("subscription.free_plan", "stands in exempt_plans; a tenant whose entitlement ended would go on without paying")
	}
	for _, tier := range sortedKeys(s.PlanAliases) {
		if tier == "" || s.PlanAliases[tier] == "" {
			v.bad(childPath("subscription.plan_aliases", showKey(tier)), "must name a plan on either side")
		}
	}
}

func (v *validator) forward() {
	f := &v.c.Forward
	names := headerKeys()
	for _, key := range sortedKeys(f.Headers) {
		path := childPath("forward.headers", showKey(key))
		if _, known := names[key]; !known {
			v.bad(path, "unknown key%s; known here: %s", meant(key, sortedKeys(names)), strings.Join(sortedKeys(names), ", "))
			continue
		}
		v.problem(path, headerProblem(f.Headers[key]))
		switch folded := foldHeader(f.Headers[key]); {
		case folded == foldHeader(v.c.Tenants.Header):
			v.bad(path, "is tenants.header, which clients send")
		case folded == "x-gate-tenant" || folded == "x-gate-code" || folded == "x-gate-forward-secret":
			v.bad(path, "has a meaning of its own")
		}
		names[key] = f.Headers[key]
	}
	v.headerCollisions(names)
	if l := f.Assertion.Lifetime; l > 0 && (l < minAssertion || l > maxAssertion) {
		v.bad("forward.assertion.lifetime", "must be from 2s to 1h")
	}
	if hasControl(f.Assertion.Audience) {
		v.bad("forward.assertion.audience", "must be plain text")
	}
}

// headerCollisions refuses two facts under names that an app server might fold into one (HDR-1).
func (v *validator) headerCollisions(names map[string]string) {
	taken := map[string]string{}
	for _, key := range sortedKeys(names) {
		folded := foldHeader(names[key])
		other, twice := taken[folded]
		if !twice {
			taken[folded] = key
			continue
		}
		if _, renamed := v.c.Forward.Headers[key]; !renamed {
			key, other = other, key
		}
		v.bad(childPath("forward.headers", key), "is the header of %s too; each needs its own", other)
	}
}

// foldHeader maps a name to the form that all spellings share which an app server might take for it.
func foldHeader(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// headerProblem judges a name that configuration gives to a header of ours: a token (RFC 9110 5.6.2) that every server
// passes on, that no standard or proxy uses, and that is short enough to be stripped in every spelling.
func headerProblem(name string) string {
	switch folded := foldHeader(name); {
	case name == "":
		return "must not be empty"
	case len(name) > 64:
		return "must be at most 64 characters long"
	case strings.Trim(folded, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || folded != strings.ToLower(name),
		strings.HasPrefix(name, "-"), strings.HasSuffix(name, "-"):
		return "must be made of letters, digits and -, such as X-Org"
	case standardHeader(folded):
		return "is a standard, hop-by-hop or proxy header; choose a name that nobody else uses, such as X-Org"
	}
	return ""
}
