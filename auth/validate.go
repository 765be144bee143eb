package auth

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Defaults of Config.
const (
	defaultIdle        = time.Hour
	defaultAbsolute    = 24 * time.Hour
	defaultSignUpLimit = 10
	defaultLeeway      = time.Minute
	maxProviders       = 100
)

// Words of sign_up.
const (
	signUpDeny         = "deny"
	signUpCreateUser   = "create_user"
	signUpCreateTenant = "create_tenant"
)

func (s SessionConfig) idle() time.Duration {
	if s.IdleTimeout == 0 {
		return defaultIdle
	}
	return s.IdleTimeout
}

func (s SessionConfig) absolute() time.Duration {
	if s.AbsoluteTimeout == 0 {
		return defaultAbsolute
	}
	return s.AbsoluteTimeout
}

func (c Config) signUpLimit() int {
	if c.SignUpLimit == 0 {
		return defaultSignUpLimit
	}
	return c.SignUpLimit
}

func (b BearerConfig) algorithms() []string {
	if len(b.Algorithms) == 0 {
		return allAlgorithms()
	}
	return slices.Clone(b.Algorithms)
}

func (b BearerConfig) leeway() time.Duration {
	if b.Leeway == nil {
		return defaultLeeway
	}
	return *b.Leeway
}

// Validate reports every fault that shows without reading a file, each with the path of its key. It does no I/O.
func (c Config) Validate() error {
	var faults []error
	fault := func(path, format string, args ...any) {
		faults = append(faults, fmt.Errorf("identity.%s: "+format, append([]any{path}, args...)...))
	}
	if len(c.Providers) > maxProviders {
		fault("providers", "has more than %d entries", maxProviders)
		return errors.Join(faults...)
	}
	for i, p := range c.Providers {
		p.validate(fmt.Sprintf("providers[%d]", i), fault)
	}
	c.validateTogether(fault)
	if c.Session.IdleTimeout < 0 {
		fault("session.idle_timeout", "is negative")
	}
	if c.Session.AbsoluteTimeout < 0 {
		fault("session.absolute_timeout", "is negative")
	}
	if c.SignUpLimit < 0 {
		fault("sign_up_limit", "is negative")
	}
	switch c.SignUp {
	case "", signUpDeny:
	case signUpCreateUser, signUpCreateTenant:
		c.validateSignUp(fault)
	default:
		fault("sign_up", "must be deny, create_user or create_tenant")
	}
	return errors.Join(faults...)
}

// validateSignUp: whoever may make users must be limited to somebody's addresses, or the operator says that it is open.
func (c Config) validateSignUp(fault func(string, string, ...any)) {
	for i, p := range c.Providers {
		if p.ClientID != "" && len(p.EmailDomains) == 0 && !c.InsecureOpenSignUp {
			fault(fmt.Sprintf("providers[%d].email_domains", i), "sign_up needs them; insecure_open_sign_up: true lets anybody in who has an account there")
		}
	}
}

// validateTogether checks what providers must not have in common. A user is provider and subject, told apart by the
// prefix alone: no prefix may be the beginning of another's.
func (c Config) validateTogether(fault func(string, string, ...any)) {
	for i, p := range c.Providers {
		path := fmt.Sprintf("providers[%d]", i)
		if p.SubjectPrefix == "" && len(c.Providers) > 1 && !c.InsecureEmptyPrefix {
			fault(path+".subject_prefix", "is needed beside other providers; insecure_empty_prefix: true lets one go without")
		}
		for j, other := range c.Providers[:i] {
			if p.Name == other.Name && p.Name != "" {
				fault(path+".name", "is the name of providers[%d] too", j)
			}
			if p.Issuer == other.Issuer && slices.ContainsFunc(p.Bearer.Audiences, func(a string) bool { return slices.Contains(other.Bearer.Audiences, a) }) {
				fault(path+".bearer.audiences", "and the ones of providers[%d] overlap at one issuer; a token could be of either", j)
			}
			switch a, b := p.SubjectPrefix, other.SubjectPrefix; {
			case a == b && (a != "" || c.InsecureEmptyPrefix):
				fault(path+".subject_prefix", "is the one of providers[%d] too; their users would be taken for each other", j)
			case a != b && a != "" && b != "" && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)):
				fault(path+".subject_prefix", "and the one of providers[%d] begin alike; their users could be taken for each other", j)
			}
		}
	}
}

var (
	providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	scopeToken   = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`) // RFC 6749 3.3
	promptWords  = regexp.MustCompile(`^[a-z_]+( [a-z_]+)*$`)
)

func (p Provider) validate(path string, fault func(string, string, ...any)) {
	if !providerName.MatchString(p.Name) {
		fault(path+".name", "must be 1 to 32 of a-z, 0-9, - and _, beginning with a letter or digit")
	}
	if u, err := checkEndpoint(p.Issuer, true); err != nil {
		fault(path+".issuer", "%v", err)
	} else if u.RawQuery != "" || strings.Contains(p.Issuer, "?") {
		fault(path+".issuer", "must have no query")
	}
	if p.DiscoveryURL != "" {
		if _, err := checkEndpoint(p.DiscoveryURL, true); err != nil {
			fault(path+".discovery_url", "%v", err)
		}
	}
	switch p.ClientAuth {
	case "", "basic", "post":
	default:
		fault(path+".client_auth", "must be basic or post")
	}
	if p.Prompt != "" && !promptWords.MatchString(p.Prompt) {
		fault(path+".prompt", "must be words such as login, consent or select_account")
	}
	p.validateClient(path, fault)
	p.validateBearer(path+".bearer", fault)
	for i, d := range p.EmailDomains {
		if _, ok := asciiDomain(d); !ok {
			fault(fmt.Sprintf("%s.email_domains[%d]", path, i), "is not a domain name")
		}
	}
	if len(p.SubjectPrefix) > maxSubject || !plainText(p.SubjectPrefix) {
		fault(path+".subject_prefix", "must be at most %d printable characters", maxSubject)
	}
}

// validateClient: a provider without a client can still have bearer tokens, and then nobody signs in with it.
func (p Provider) validateClient(path string, fault func(string, string, ...any)) {
	switch {
	case p.ClientID == "" && len(p.Bearer.Audiences) == 0:
		fault(path+".client_id", "is missing")
	case p.ClientID != "" && p.ClientSecret.IsZero():
		fault(path+".client_secret", "is missing or empty")
	case p.ClientID == "" && !p.ClientSecret.IsZero():
		fault(path+".client_id", "is missing beside a client_secret")
	}
	openid := len(p.Scopes) == 0
	for i, s := range p.Scopes {
		openid = openid || s == "openid"
		if s == "offline_access" {
			fault(fmt.Sprintf("%s.scopes[%d]", path, i), "offline_access asks for a refresh token, and none is kept; leave it out")
		}
		if !scopeToken.MatchString(s) {
			fault(fmt.Sprintf("%s.scopes[%d]", path, i), "is not a scope")
		}
	}
	if !openid {
		fault(path+".scopes", "must hold openid")
	}
}

func (p Provider) validateBearer(path string, fault func(string, string, ...any)) {
	for i, a := range p.Bearer.Audiences {
		if a == "" {
			fault(fmt.Sprintf("%s.audiences[%d]", path, i), "is empty")
		}
	}
	for i, alg := range p.Bearer.Algorithms {
		if !slices.Contains(allAlgorithms(), alg) {
			fault(fmt.Sprintf("%s.algorithms[%d]", path, i), "must be RS256, ES256 or EdDSA")
		}
	}
	if p.Bearer.Leeway != nil && *p.Bearer.Leeway < 0 {
		fault(path+".leeway", "is negative")
	}
}

// plainText reports whether s has no control characters and is UTF-8.
func plainText(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return true
}
