module github.com/tenantgate/tenantgate

go 1.26.0

require (
	github.com/chromedp/cdproto v0.159.0 // tests: the messages that chromedp speaks
	github.com/chromedp/chromedp v0.23.0 // tests: a real browser
	github.com/coreos/go-oidc/v3 v3.21.0 // discovery and ID token verification
	github.com/fsnotify/fsnotify v1.10.1 // configuration, certificates and secrets reloaded on change
	github.com/go-jose/go-jose/v4 v4.1.9 // JWKS types; the development provider's keys
	github.com/goccy/go-yaml v1.19.2 // YAML with line and column of every value
	github.com/golang-jwt/jwt/v5 v5.3.1 // JWT signing and signature verification
	github.com/hashicorp/golang-lru/v2 v2.0.7 // the cache's eviction
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL
	github.com/pressly/goose/v3 v3.29.0 // migrations on both engines
	github.com/prometheus/client_golang v1.25.0 // the /metrics endpoint
	github.com/prometheus/otlptranslator v1.0.0 // metric names as Prometheus spells them
	github.com/spf13/cobra v1.10.2 // the command line
	github.com/stripe/stripe-go/v85 v85.0.0 // Stripe's API: parameters, shapes and errors of one pinned version
	github.com/stripe/stripe-mock v0.203.0 // tests: Stripe's published parameters and fixtures
	github.com/zitadel/oidc/v3 v3.51.17 // the development provider only
	go.opentelemetry.io/otel v1.47.0 // traces and metrics: the API
	go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp v1.47.0 // traces to a collector
	go.opentelemetry.io/otel/exporters/prometheus v0.69.0 // metrics to Prometheus
	go.opentelemetry.io/otel/metric v1.47.0 // metrics: the API
	go.opentelemetry.io/otel/sdk v1.47.0 // traces: the SDK
	go.opentelemetry.io/otel/sdk/metric v1.47.0 // metrics: the SDK
	go.opentelemetry.io/otel/trace v1.47.0 // traces: the API
	go.uber.org/goleak v1.3.0 // tests: no goroutine left behind
	golang.org/x/net v0.62.0 // IDNA, a method's form; tests: WebSocket
	golang.org/x/oauth2 v0.37.0 // code exchange with PKCE
	golang.org/x/sync v0.24.0 // errgroup
	modernc.org/sqlite v1.62.0 // embedded SQLite without cgo
	pgregory.net/rapid v1.3.0 // tests: properties
)

require (
	github.com/BurntSushi/toml v1.4.1-0.20240526193622-a339e1f7089c // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/bmatcuk/doublestar/v4 v4.10.4 // indirect
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/go-chi/chi/v5 v5.5.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.30.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/lestrrat-go/jspointer v0.0.0-20181205001929-82fadba7561c // indirect
	github.com/lestrrat-go/jsref v0.0.0-20181205001954-1b590508f37d // indirect
	github.com/lestrrat-go/jsschema v0.0.0-20181205002244-5c81c58ffcc3 // indirect
	github.com/lestrrat-go/jsval v0.0.0-20181205002323-20277e9befc0 // indirect
	github.com/lestrrat-go/pdebug v0.0.0-20180220043849-39f9a71bcabe // indirect
	github.com/lestrrat-go/structinfo v0.0.0-20190212233437-acd51874663b // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mfridman/interpolate v0.0.2 // indirect
	github.com/muhlemmer/gu v0.3.1 // indirect
	github.com/muhlemmer/httpforwarded v0.1.0 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/pkg/errors v0.8.1-0.20170505043639-c605e284fe17 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/rs/cors v1.11.1 // indirect
	github.com/sethvargo/go-retry v0.5.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/xeipuuv/gojsonschema v1.2.0 // indirect
	github.com/zitadel/schema v1.3.2 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel/exporters/otlp/otlptrace v1.47.0 // indirect
	go.opentelemetry.io/otel/log v1.47.0 // indirect
	go.opentelemetry.io/proto/otlp v1.11.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261005182115-fad411399dd8 // indirect
	google.golang.org/grpc v1.84.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	honnef.co/go/tools v0.8.2 // indirect
	modernc.org/libc v1.80.1 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
	mvdan.cc/gofumpt v0.12.0 // indirect
)

tool (
	honnef.co/go/tools/cmd/staticcheck
	mvdan.cc/gofumpt
)
