package config

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

const maxLeeway = 10 * time.Minute

func (v *validator) identity() {
	id := &v.c.Identity
	names := map[string]int{}
	for i := range id.Providers {
		p := &id.Providers[i]
		path := indexPath("identity.providers", i)
		v.provider(p, path)
		if first, twice := names[p.Name]; twice && p.Name != "" {
			v.bad(path+".name", "is the name of providers[%d] already; each needs its own", first)
			continue
		}
		names[p.Name] = i
	}
	v.prefixes()
	v.bearers()
	if id.SignUp != "deny" && !id.InsecureOpenSignUp {
		if len(id.Providers) == 0 {
			v.bad("identity.sign_up", "needs a provider with email_domains")
		}
		for i := range id.Providers {
			if id.Providers[i].ClientID != "" && len(id.Providers[i].EmailDomains) == 0 {
				v.bad(indexPath("identity.providers", i)+".email_domains",
					"missing; with sign_up anybody at this provider could become a user: list the domains, or set identity.insecure_open_sign_up: true")
			}
		}
	}
	if made := &v.c.Provisioning; id.SignUp == "create_tenant" && made.AdminURL.IsZero() && made.AdminURLFile == "" {
		v.bad("identity.sign_up", "create_tenant needs provisioning.admin_url, which says where tenants' databases are made")
	}
	if !slices.ContainsFunc(v.faults.list, func(f Fault) bool { return strings.HasPrefix(f.Path, "identity.") }) {
		v.authAgrees()
	}
}

// authAgrees asks the package that will use the section, so that what it would refuse at the start is refused here.
func (v *validator) authAgrees() {
	id := v.c.Identity
	id.Providers = slices.Clone(id.Providers)
	for i := range id.Providers {
		if p := &id.Providers[i]; p.ClientSecretFile != "" && p.ClientSecret.IsZero() {
			p.ClientSecret = secret.New("of a file that was not read")
		}
	}
	err := id.Validate()
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		path, message, _ := strings.Cut(line, ": ")
		v.bad(path, "%s", message)
	}
}

func (v *validator) provider(p *auth.Provider, path string) {
	switch {
	case p.Name == "":
		v.bad(path+".name", "missing; it is part of the callback's path, such as google")
	case !providerName(p.Name):
		v.bad(path+".name", "must be a-z, 0-9, - and _, begin with a letter or digit, and be at most 32 long")
	}
	if p.Issuer == "" {
		v.bad(path+".issuer", "missing; write the provider's issuer, such as https://accounts.google.com")
	} else {
		v.problem(path+".issuer", issuerProblem(p.Issuer, false))
	}
	if p.DiscoveryURL != "" {
		v.problem(path+".discovery_url", issuerProblem(p.DiscoveryURL, true))
	}
	secretGiven := !p.ClientSecret.IsZero() || p.ClientSecretFile != ""
	switch {
	case p.ClientID == "" && (secretGiven || len(p.Bearer.Audiences) == 0): // with bearer.audiences alone nobody signs in
		v.bad(path+".client_id", "missing; the provider issued it")
	case p.ClientID != "" && !secretGiven:
		v.bad(path+".client_secret_file", "missing; name the file that holds the client secret that the provider issued")
	}
	if !slices.Contains(p.Scopes, "openid") {
		v.bad(path+".scopes", "must contain openid")
	}
	for i, s := range p.Scopes {
		if strings.ContainsAny(s, " \t\"\\") || hasControl(s) {
			v.bad(indexPath(path+".scopes", i), "must be one scope; write several as a list")
		}
	}
	if strings.Contains(p.Prompt, "none") || hasControl(p.Prompt) {
		v.bad(path+".prompt", "must be login, consent or select_account; none would let nobody sign in")
	}
	if hasControl(p.SubjectPrefix) {
		v.bad(path+".subject_prefix", "must be plain text")
	}
	for i, domain := range p.EmailDomains {
		v.problem(indexPath(path+".email_domains", i), domainProblem(domain))
	}
	if leeway := p.Bearer.Leeway; leeway != nil && *leeway > maxLeeway {
		v.bad(path+".bearer.leeway", "must be at most 10m; it keeps expired tokens good")
	}
}

func providerName(s string) bool {
	if s == "" || len(s) > 32 || s[0] == '-' || s[0] == '_' {
		return false
	}
	return looksLikeKey(s) && s == strings.ToLower(s)
}

// issuerProblem judges an issuer, compared exactly (OpenID Connect Core 2), or, with query, where its metadata is.
func issuerProblem(s string, query bool) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || hasControl(s):
		return "must be a URL such as https://accounts.google.com"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must begin with https://"
	case u.User != nil:
		return "must not hold a user or a password"
	case !query && (u.RawQuery != "" || u.ForceQuery) || strings.Contains(s, "#"):
		return "must have neither query nor fragment"
	case u.Scheme == "http" && !loopbackName(u.Hostname()):
		return "must begin with https://; http is for loopback addresses, localhost and *.localhost"
	}
	if _, ok := router.ParseHost(u.Host); !ok {
		return "its host is not valid"
	}
	return ""
}

func domainProblem(s string) string {
	host, ok := router.ParseHost(s)
	switch {
	case strings.Contains(s, "@"):
		return "must be a domain without @, such as example.com"
	case !ok || host.Port != "" || strings.ContainsAny(s, "[:") || strings.HasSuffix(s, "."):
		return "must be a domain such as example.com, international names in their xn-- form"
	}
	return ""
}

// prefixes holds contract section 6, Linking: a subject of one provider must never read as one of another's.
func (v *validator) prefixes() {
	id := &v.c.Identity
	for i := range id.Providers {
		p, path := id.Providers[i].SubjectPrefix, indexPath("identity.providers", i)+".subject_prefix"
		for j := range id.Providers {
			q := id.Providers[j].SubjectPrefix
			switch {
			case i == j:
			case p == q && i > j:
				v.bad(path, "is that of providers[%d]; their subjects would be one person's", j)
			case p == "" && q != "" && !id.InsecureEmptyPrefix:
				v.bad(path, "is empty beside other providers; give it one, such as NAME:, or set identity.insecure_empty_prefix: true if users exist without")
				return
			case p != "" && p != q && strings.HasPrefix(q, p):
				v.bad(path, "is what the prefix of providers[%d] begins with; end it with a character that the other does not have there, such as :", j)
			}
		}
	}
}

// bearers refuses two providers of one issuer that would take the same token.
func (v *validator) bearers() {
	providers := v.c.Identity.Providers
	for i := range providers {
		for j := range i {
			if providers[i].Issuer != providers[j].Issuer {
				continue
			}
			for k, audience := range providers[i].Bearer.Audiences {
				if slices.Contains(providers[j].Bearer.Audiences, audience) {
					v.bad(indexPath(indexPath("identity.providers", i)+".bearer.audiences", k),
						"is an audience of providers[%d], which has the same issuer; a token would belong to both", j)
				}
			}
		}
	}
}
