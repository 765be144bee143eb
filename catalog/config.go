package catalog

import "time"

// Config says where the host database is. The zero value is not usable: URL has no default.
type Config struct {
	// URL is postgresql://…, postgresql+driver://… (the driver is ignored), sqlite:PATH or sqlite:///PATH.
	URL DBURI `yaml:"url"`
	// URLFile holds URL; package config reads it. New does not.
	URLFile string `yaml:"url_file"`
	// MaxConnections bounds the pool. 0: 10.
	MaxConnections int `yaml:"max_connections"`
	// Migrate makes Open create and upgrade tables. Nil: true. False: a schema that lacks something is an error.
	Migrate *bool `yaml:"migrate"`
	// Refs bounds what db_url references may point at; the zero value allows none.
	Refs Refs `yaml:"refs"`
	// Reserved are names that no tenant's slug or custom host may take. Package config fills it in. A process that knows
	// none reserves none.
	Reserved Reserved `yaml:"-" json:"-"`
	// BestEffortAudit lets a change happen whose audit row cannot be written (audit.mode best_effort). False: what cannot
	// be recorded is not done. Package config fills it in.
	BestEffortAudit bool `yaml:"-" json:"-"`
	// Unrecorded is told of each such row once its change is committed: the event and why. It must not block. Nil: nobody
	// is told.
	Unrecorded func(event string, err error) `yaml:"-" json:"-"`
	// Clock gives the time of created_at columns. Nil: time.Now.
	Clock func() time.Time `yaml:"-" json:"-"`
	// SharedClock is what leases and jobs go by. Nil: on PostgreSQL the server's clock, on SQLite the machine's.
	SharedClock func() time.Time `yaml:"-" json:"-"`
}

// Refs bounds ref:env:NAME and ref:file:PATH in core_tenants.db_url.
type Refs struct {
	EnvPrefix string `yaml:"env_prefix"`
	Dir       string `yaml:"dir"`
}
