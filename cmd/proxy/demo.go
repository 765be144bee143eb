package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/demoapp"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
	"github.com/tenantgate/tenantgate/telemetry"
)

// demoGrace bounds requests under way at the end, so that Ctrl-C ends the demo within two seconds.
const demoGrace = time.Second

// demoTokenLife is how long the printed curl line works.
const demoTokenLife = 24 * time.Hour

const (
	demoAudience = "tenantgate-demo"
	demoClient   = "tenantgate-demo"
	demoApp      = "app"
)

// demoFlags is the demo's command line.
type demoFlags struct {
	listen                 string
	provider, app, adminAt uint16
	data                   string
	output                 *format
}

func demoCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "See everything work, in one process, without set-up", Args: noArgs,
		Long: "Runs the proxy, a development OpenID provider with a page to pick a person, and an app that opens the tenant's\n" +
			"own database from the header, all on loopback. Needs no network and no set-up; Ctrl-C ends it and leaves nothing\n" +
			"behind, unless --data says where to keep it.",
		Example: "tenantgate demo --listen 127.0.0.1:9000 --data ./demo-data",
	}
	var f demoFlags
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8080", "address of the proxy, on loopback")
	cmd.Flags().Uint16Var(&f.provider, "provider-port", 8081, "port of the development OpenID provider")
	cmd.Flags().Uint16Var(&f.app, "app-port", 8082, "port of the app")
	cmd.Flags().Uint16Var(&f.adminAt, "admin-port", 9901, "port of health, readiness and metrics")
	cmd.Flags().StringVar(&f.data, "data", "", "directory that keeps everything; absent: nothing is kept")
	f.output = outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return p.demo(cmd.Context(), f) }
	return cmd
}

// demoWorld is what the demo is made of while it runs.
type demoWorld struct {
	flags demoFlags
	dir   string
	kept  bool
	clock func() time.Time

	public, ops, provider, app *bound

	idp  *devidp.Provider
	gate gate
	site struct{ provider, app site }
}

func (p *program) demo(ctx context.Context, f demoFlags) (err error) {
	w := &demoWorld{flags: f, clock: p.clock}
	if err := w.bind(ctx); err != nil {
		return err
	}
	defer w.unbind()
	if err := w.directory(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.leave()) }()
	cfg, err := w.prepare(ctx)
	if err != nil {
		return err
	}
	if w.gate, err = p.open(ctx, cfg, p.err, p.clock); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, w.gate.Close()) }()
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: actor()})
	if err := seedDemo(ctx, w.gate.Host(), w.clock(), w.tenantURI); err != nil {
		return err
	}
	if err := w.serveAround(); err != nil {
		return err
	}
	if err := w.tell(p.out); err != nil {
		return err
	}
	log := w.gate.Logger()
	return (&life{
		public: site{newServer(w.gate.Handler(), cfg, log, nil), []*bound{w.public}},
		admin:  site{newAdminServer(w.gate.AdminHandler(), log), []*bound{w.ops}},
		others: []site{w.site.provider, w.site.app},
		drain:  w.gate.Drain, grace: demoGrace, log: log,
	}).run(ctx)
}

// bind takes all four addresses or none.
func (w *demoWorld) bind(ctx context.Context) error {
	host, _, err := net.SplitHostPort(w.flags.listen)
	if err != nil {
		return usagef("--listen: want host:port, such as 127.0.0.1:8080")
	}
	if !isLoopback(host) {
		return usagef("--listen: the demo has no passwords and stands on loopback only, such as 127.0.0.1:8080")
	}
	port := func(n uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(n))) }
	all, err := bindAll(ctx,
		address{"--listen", w.flags.listen}, address{"--provider-port", port(w.flags.provider)},
		address{"--app-port", port(w.flags.app)}, address{"--admin-port", port(w.flags.adminAt)})
	if err != nil {
		return err
	}
	w.public, w.provider, w.app, w.ops = all[0], all[1], all[2], all[3]
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() && ip.Zone() == ""
}

func (w *demoWorld) unbind() { closeAll([]*bound{w.public, w.provider, w.app, w.ops}) }

// url is the address as a browser writes it: the name that --listen gave, and the port that was bound.
func (w *demoWorld) url(b *bound) string {
	host, _, _ := net.SplitHostPort(w.flags.listen)
	_, port, _ := net.SplitHostPort(b.Addr().String())
	return "http://" + net.JoinHostPort(host, port)
}

// directory makes the place where the demo's files are.
func (w *demoWorld) directory() error {
	if w.flags.data == "" {
		dir, err := os.MkdirTemp("", "tenantgate-demo-")
		w.dir = dir
		return err
	}
	dir, err := filepath.Abs(w.flags.data)
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if strings.ContainsFunc(dir, func(r rune) bool { return r <= ' ' || r > '~' || r == '?' }) {
		return usagef("--data: the path goes into database URIs: want one without space, ? or other than ASCII characters")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	w.dir, w.kept = dir, true
	return nil
}

// leave removes what is not to be kept.
func (w *demoWorld) leave() error {
	if w.kept || w.dir == "" {
		return nil
	}
	return os.RemoveAll(w.dir)
}

func (w *demoWorld) tenantPath(tenant string) string { return filepath.Join(w.dir, tenant+".db") }

func (w *demoWorld) tenantURI(tenant string) catalog.DBURI {
	return catalog.NewDBURI("sqlite:///" + w.tenantPath(tenant))
}

// prepare makes tenants' databases, keys and the configuration.
func (w *demoWorld) prepare(ctx context.Context) (*config.Config, error) {
	for _, t := range demoTenants() {
		if err := demoapp.SeedTenant(ctx, w.tenantPath(t.id), t.name); err != nil {
			return nil, err
		}
	}
	master, err := keepFile(filepath.Join(w.dir, "master-secret"), func() ([]byte, error) { return []byte(config.NewSecret() + "\n"), nil })
	if err != nil {
		return nil, err
	}
	clientSecret := secret.New(rand.Text())
	if err := w.makeProvider(clientSecret); err != nil {
		return nil, err
	}
	return &config.Config{
		Listen: config.Listen{w.flags.listen}, PublicURL: w.url(w.public), SecretKey: secret.New(strings.TrimSpace(string(master))),
		Admin:        config.Admin{Listen: w.ops.text, PublicURL: w.url(w.ops)},
		HostDatabase: catalog.Config{URL: catalog.NewDBURI("sqlite:" + filepath.Join(w.dir, "host.db"))},
		Identity: auth.Config{Providers: []auth.Provider{{
			Name: "demo", Issuer: w.idp.Issuer(), ClientID: demoClient, ClientSecret: clientSecret, SubjectPrefix: demoPrefix,
			Bearer: auth.BearerConfig{Audiences: []string{demoAudience}},
		}}},
		Tenants:   router.TenantsConfig{PathPrefix: "/t/"},
		Upstreams: map[string]router.UpstreamConfig{demoApp: {URLs: []string{w.url(w.app)}}},
		Routes: []router.RouteConfig{
			{Path: "/healthz", Access: "public", Upstream: demoApp},
			{Path: "/assets/", Access: "public", Upstream: demoApp},
			{Path: "/account/", Access: "user", Upstream: demoApp},
			{Path: "/reports/", Feature: "advanced_analytics", Upstream: demoApp},
			{Path: "/settings/", MinRole: "admin", Upstream: demoApp},
			{Path: "/", Upstream: demoApp},
		},
		Telemetry: telemetry.Config{Log: telemetry.LogConfig{Level: "warn", Format: "text"}},
	}, nil
}

// makeProvider makes the OpenID provider. Its key is kept, so that with --data a token goes on working.
func (w *demoWorld) makeProvider(clientSecret secret.Text) error {
	key, err := providerKey(filepath.Join(w.dir, "provider-key"))
	if err != nil {
		return err
	}
	people := demoPeople()
	persons := make([]devidp.Person, len(people))
	for i := range people {
		persons[i] = people[i].Person
	}
	public := w.url(w.public)
	w.idp, err = devidp.New(devidp.Config{
		Issuer: w.url(w.provider), People: persons, ClientID: demoClient, ClientName: "the tenantgate demo", ClientSecret: clientSecret,
		RedirectURIs:           []string{public + "/_gate/callback/demo"},
		PostLogoutRedirectURIs: []string{public + "/_gate/logout", public + "/"},
		Key:                    key, Clock: w.clock,
	})
	return err
}

func providerKey(path string) (crypto.Signer, error) {
	text, err := keepFile(path, func() ([]byte, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return devidp.MarshalKey(key)
	})
	if err != nil {
		return nil, err
	}
	key, err := devidp.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file to have a new one made", path, err)
	}
	return key, nil
}

// keepFile reads a file, or makes it, for its owner alone.
func keepFile(path string, make func() ([]byte, error)) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if text, err = make(); err != nil {
		return nil, err
	}
	return text, os.WriteFile(path, text, 0o600)
}

// serveAround makes the servers of the provider and of the app.
func (w *demoWorld) serveAround() error {
	app, err := demoapp.New(demoapp.Config{
		JWKSURL: w.url(w.public) + "/_gate/jwks.json", Issuer: w.url(w.public), Audience: demoApp, Clock: w.clock,
	})
	if err != nil {
		return err
	}
	server := func(h http.Handler) *http.Server {
		return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	}
	w.site.provider = site{server(w.idp), []*bound{w.provider}}
	w.site.app = site{server(app), []*bound{w.app}}
	return nil
}

// tell prints where everything is, once it can be opened.
func (w *demoWorld) tell(out io.Writer) error {
	token, err := w.idp.MintAccessToken("olivia", demoAudience, demoTokenLife, nil)
	if err != nil {
		return err
	}
	curl := fmt.Sprintf("curl -H 'Authorization: Bearer %s' %s/t/acme/api/rows", token, w.url(w.public))
	if *w.flags.output == formatJSON {
		return w.tellPrograms(out, curl)
	}
	tw := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(tw, "tenantgate demo\n\n")
	_, _ = fmt.Fprintf(tw, "  Open\t%s/\n", w.url(w.public))
	_, _ = fmt.Fprintf(tw, "  Provider\t%s\tdevelopment only: who signs in picks a person\n", w.url(w.provider))
	_, _ = fmt.Fprintf(tw, "  App\t%s\tshows nothing to those who come past the proxy\n", w.url(w.app))
	_, _ = fmt.Fprintf(tw, "  Admin\t%s\t/healthz, /readyz, /metrics\n", w.url(w.ops))
	_, _ = fmt.Fprintf(tw, "\nPeople to sign in as\n\n")
	for _, p := range demoPeople() {
		_, _ = fmt.Fprintf(tw, "  %s\t%s\t%s\n", p.Name, p.Email, p.Note)
	}
	_, _ = fmt.Fprintf(tw, "\nWithout a browser, as Olivia\n\n%s\n\n", curl)
	_, _ = fmt.Fprintln(tw, cmp.Or(keptText(w), "Nothing is kept.")+" Ctrl-C ends it.")
	return tw.Flush()
}

func keptText(w *demoWorld) string {
	if !w.kept {
		return ""
	}
	return "Everything is kept in " + w.dir + "."
}

func (w *demoWorld) tellPrograms(out io.Writer, curl string) error {
	var people []record
	for _, p := range demoPeople() {
		tenants := p.roles
		if tenants == nil {
			tenants = map[string]string{}
		}
		people = append(people, record{
			{"subject", p.Subject}, {"name", p.Name}, {"email", p.Email}, {"note", p.Note}, {"tenants", tenants},
		})
	}
	return writeJSON(out, record{
		{"url", w.url(w.public)},
		{"provider_url", w.url(w.provider)},
		{"app_url", w.url(w.app)},
		{"admin_url", w.url(w.ops)},
		{"data", orDash(cmp.Or(map[bool]string{true: w.dir}[w.kept], ""))},
		{"people", people},
		{"curl", curl},
	})
}
