package router

import (
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Bytes is a size in bytes; configuration writes it with B, KiB, MiB or GiB.
type Bytes int64

// TenantsConfig says which parts of a request name a tenant.
type TenantsConfig struct {
	// Resolve lists the sources that are read: host, path, header, claim, session, only. Empty: all six.
	Resolve []string `yaml:"resolve"`
	// BaseDomain: LABEL.BaseDomain names a tenant; "" switches the source off.
	BaseDomain string `yaml:"base_domain"`
	// PathPrefix, e.g. /t/: /t/NAME/x reaches the app as /x; "" switches the source off.
	PathPrefix string `yaml:"path_prefix"`
	// Header names a tenant and is removed. Empty: X-Tenant.
	Header string `yaml:"header"`
	// Claim of bearer tokens. Empty: tenant.
	Claim string `yaml:"claim"`
}

// UpstreamConfig is one app.
type UpstreamConfig struct {
	// URLs are http://, https://, h2c:// or unix:/PATH; several are used in turn.
	URLs []string `yaml:"urls"`
	// Timeout until response headers. 0: 60s.
	Timeout time.Duration `yaml:"timeout"`
	// Host sent to the app: pass (also ""; the client's), upstream (the URL's), or a literal name.
	Host     string `yaml:"host"`
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// InsecurePlaintext allows http:// and h2c:// to another machine, although the tenant's URI is a credential.
	InsecurePlaintext bool `yaml:"insecure_plaintext"`
	// Audience overrides forward.assertion.audience.
	Audience string `yaml:"audience"`
}

// RouteConfig is one rule; the first match wins.
type RouteConfig struct {
	// Path is a prefix on segment boundaries.
	Path string `yaml:"path"`
	// Methods that match; empty: all; the word unsafe: all but GET, HEAD, OPTIONS.
	Methods []string `yaml:"methods"`
	// Host that matches; empty: all.
	Host string `yaml:"host"`
	// Access is public, user or tenant (also "").
	Access   string `yaml:"access"`
	Upstream string `yaml:"upstream"`
	// Subscription is required (also "") or optional.
	Subscription string `yaml:"subscription"`
	MinRole      string `yaml:"min_role"`
	Feature      string `yaml:"feature"`
	MinTier      *int64 `yaml:"min_tier"`
	// Timeout overrides the upstream's.
	Timeout time.Duration `yaml:"timeout"`
	CORS    *CORSConfig   `yaml:"cors"`
	// CrossOrigin lists origins that may send unsafe methods with a cookie.
	CrossOrigin         []string `yaml:"cross_origin"`
	AllowEncodedSlash   bool     `yaml:"allow_encoded_slash"`
	AllowPathParameters bool     `yaml:"allow_path_parameters"`
}

// CORSConfig answers preflights and marks our own denials.
type CORSConfig struct {
	Origins     []string `yaml:"origins"`
	Credentials bool     `yaml:"credentials"`
}

// ForwardConfig says what the app receives.
type ForwardConfig struct {
	// DBURI is header (also "") or off.
	DBURI string `yaml:"db_uri"`
	// Headers renames: user_id, tenant_id, tenant_db_uri, tenant_plan, tenant_features, subscription_status,
	// user_email, user_role, user_profile_id, assertion → header name.
	Headers map[string]string `yaml:"headers"`
	// MethodOverride is strip (also "") or pass.
	MethodOverride string `yaml:"method_override"`
	// Authorization is strip (also "") or pass: what becomes of a bearer token that was consumed.
	Authorization string `yaml:"authorization"`
	// MiddlewareHeaders: nil means true.
	MiddlewareHeaders *bool           `yaml:"middleware_headers"`
	Assertion         AssertionConfig `yaml:"assertion"`
}

// AssertionConfig is forward.assertion.
type AssertionConfig struct {
	// Enabled: nil means true.
	Enabled *bool `yaml:"enabled"`
	// Audience; empty: app.
	Audience string `yaml:"audience"`
	// Lifetime; 0: 60s. Renewed at half of it.
	Lifetime time.Duration `yaml:"lifetime"`
}

// CacheConfig bounds what is remembered and for how long.
type CacheConfig struct {
	// Entries; 0: 100000.
	Entries int `yaml:"entries"`
	// TTL; nil: 5m.
	TTL *time.Duration `yaml:"ttl"`
	// NegativeTTL; nil: 5s.
	NegativeTTL *time.Duration `yaml:"negative_ttl"`
	// Heartbeat; 0: 1s.
	Heartbeat time.Duration `yaml:"heartbeat"`
	// MaxStale; nil: 30s.
	MaxStale *time.Duration `yaml:"max_stale"`
}

// LimitsConfig bounds requests.
type LimitsConfig struct {
	// HeaderBytes; 0: 32KiB, negative: unlimited.
	HeaderBytes Bytes `yaml:"header_bytes"`
	// BodyBytes; 0: unlimited.
	BodyBytes Bytes `yaml:"body_bytes"`
	// ReadHeaderTimeout; 0: 10s, negative: unlimited.
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout"`
	// IdleTimeout of kept-alive connections; 0: 120s, negative: unlimited.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
}

// ForwardAuthConfig is forward_auth.
type ForwardAuthConfig struct {
	Listen     string      `yaml:"listen"`
	Peers      []string    `yaml:"peers"`
	Secret     secret.Text `yaml:"secret"`
	SecretFile string      `yaml:"secret_file"`
}
