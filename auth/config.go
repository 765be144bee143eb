package auth

import (
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Config says who may sign in and how long that lasts.
type Config struct {
	Providers []Provider    `yaml:"providers"`
	Session   SessionConfig `yaml:"session"`
	// SignUp is deny (also ""), create_user or create_tenant.
	SignUp string `yaml:"sign_up"`
	// SignUpLimit is new users an hour and client IP. 0: 10.
	SignUpLimit int `yaml:"sign_up_limit"`
	// InsecureOpenSignUp allows sign_up without email_domains: anybody with an account at the provider becomes a user.
	InsecureOpenSignUp bool `yaml:"insecure_open_sign_up"`
	// InsecureEmptyPrefix allows one provider of several to have the empty subject_prefix.
	InsecureEmptyPrefix bool `yaml:"insecure_empty_prefix"`
}

// Provider is one OpenID provider.
type Provider struct {
	// Name stands in the callback path; [a-z0-9][a-z0-9_-]*, at most 32 bytes.
	Name string `yaml:"name"`
	// Issuer is https://…, or http:// on loopback; compared exactly with the iss claim.
	Issuer string `yaml:"issuer"`
	// DiscoveryURL overrides Issuer + /.well-known/openid-configuration.
	DiscoveryURL string `yaml:"discovery_url"`
	// CAFile holds PEM roots used instead of the system's.
	CAFile string `yaml:"ca_file"`
	// ClientAuth is basic (also "") or post.
	ClientAuth       string      `yaml:"client_auth"`
	Prompt           string      `yaml:"prompt"`
	ClientID         string      `yaml:"client_id"`
	ClientSecret     secret.Text `yaml:"client_secret"`
	ClientSecretFile string      `yaml:"client_secret_file"`
	// Scopes; empty: openid, email, profile.
	Scopes []string `yaml:"scopes"`
	// SubjectPrefix + sub = GlobalUser.oauth_id.
	SubjectPrefix string `yaml:"subject_prefix"`
	// EmailDomains limits browser sign-in to verified addresses of these domains; empty: no limit.
	EmailDomains []string `yaml:"email_domains"`
	// TrustEmail links a verified address to the one user without oauth_id who has it.
	TrustEmail bool         `yaml:"trust_email"`
	Bearer     BearerConfig `yaml:"bearer"`
}

// BearerConfig says which JWTs of a provider count as bearer tokens. No audience, no bearer tokens.
type BearerConfig struct {
	Audiences []string `yaml:"audiences"`
	// Algorithms of RS256, ES256, EdDSA; empty: all three.
	Algorithms []string `yaml:"algorithms"`
	// Leeway on exp, nbf and iat. Nil: 60s.
	Leeway *time.Duration `yaml:"leeway"`
}

// SessionConfig bounds sessions.
type SessionConfig struct {
	// IdleTimeout ends a session unused for so long. 0: 1h.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// AbsoluteTimeout ends a session so long after sign-in. 0: 24h.
	AbsoluteTimeout time.Duration `yaml:"absolute_timeout"`
}
