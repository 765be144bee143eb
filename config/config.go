// Package config makes one Config out of a YAML file, the environment and defaults, says what is wrong with it at which
// line and column, prints it with secrets redacted, and watches the files for changes.
//
// A Config is plain data: it may be copied and read from many goroutines, and is not to be changed once in use. Load
// reads files; Validate and Warnings do no I/O. Whatever cannot be read, is not known or contradicts itself is an error
// that names every fault at once: a configuration is in force whole or not at all. No error repeats a value.
package config

import (
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
	"github.com/tenantgate/tenantgate/telemetry"
)

// Config is the whole configuration, each part the Config of the package that it is for. Fields left at their zero
// value mean the documented default. Load fills one from a file and the environment; Go programs may fill it by hand
// and call Validate.
type Config struct {
	// Listen addresses: host:port or unix:/path. Empty: ":8080".
	Listen Listen `yaml:"listen"`
	// PublicURL is where browsers reach the proxy.
	PublicURL string `yaml:"public_url"`
	// SecretKey holds master secrets, one a line, base64 of 32+ bytes; the first signs, all verify.
	SecretKey      secret.Text `yaml:"secret_key"`
	SecretKeyFile  string      `yaml:"secret_key_file"`
	TrustedProxies []string    `yaml:"trusted_proxies"`
	TLS            TLS         `yaml:"tls"`
	Admin          Admin       `yaml:"admin"`

	ForwardAuth router.ForwardAuthConfig `yaml:"forward_auth"`
	ExtAuthz    ExtAuthz                 `yaml:"ext_authz"`

	HostDatabase catalog.Config                   `yaml:"host_database"`
	Identity     auth.Config                      `yaml:"identity"`
	Tenants      router.TenantsConfig             `yaml:"tenants"`
	Upstreams    map[string]router.UpstreamConfig `yaml:"upstreams"`
	Routes       []router.RouteConfig             `yaml:"routes"`
	Roles        []string                         `yaml:"roles"`
	Subscription billing.Config                   `yaml:"subscription"`
	Forward      router.ForwardConfig             `yaml:"forward"`
	Cache        router.CacheConfig               `yaml:"cache"`
	Billing      Billing                          `yaml:"billing"`
	Provisioning Provisioning                     `yaml:"provisioning"`
	Audit        Audit                            `yaml:"audit"`
	Limits       router.LimitsConfig              `yaml:"limits"`
	Telemetry    telemetry.Config                 `yaml:"telemetry"`

	src *sources // nil unless loaded
}

// Listen is one address or a list of them: host:port, or unix:/path (mode 0660).
type Listen []string

// TLS is the public listener's certificate, reloaded on change.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Admin is the listener for health, metrics, admin API and console.
type Admin struct {
	// Listen; empty: 127.0.0.1:9901.
	Listen string `yaml:"listen"`
	// PublicURL; empty: http://localhost:9901.
	PublicURL string `yaml:"public_url"`
}

// ExtAuthz is Envoy's gRPC listener; off by default.
type ExtAuthz struct {
	Listen string `yaml:"listen"`
}

// Billing is the billing section.
type Billing struct {
	Stripe billing.StripeConfig `yaml:"stripe"`
}

// Provisioning is the provisioning section.
type Provisioning struct {
	Engine        string      `yaml:"engine"`
	AdminURL      secret.Text `yaml:"admin_url"`
	AdminURLFile  string      `yaml:"admin_url_file"`
	MigrationsDir string      `yaml:"migrations_dir"`
	Seal          *bool       `yaml:"seal"`
}

// Audit is the audit section.
type Audit struct {
	// Mode is required (also "") or best_effort.
	Mode string `yaml:"mode"`
}
