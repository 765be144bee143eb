package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// provider is one OpenID provider: its configuration, checked, and what it says of itself, fetched when needed.
type provider struct {
	name, issuer string
	discovery    string
	clientID     string
	clientSecret string
	authStyle    oauth2.AuthStyle
	prompt       string
	scopes       []string
	prefix       string
	reserved     []string // the other providers' prefixes, where ours is empty
	domains      []string // email_domains
	trustEmail   bool
	signIn       bool // has a client, so that people can sign in with it
	audiences    []string
	algorithms   []string
	leeway       time.Duration

	client   *http.Client
	metadata *remote[*metadata]
	keys     *remote[*keySet]
}

// metadata is what is used of a discovery document (OpenID Connect Discovery 1.0, 3). Every URL was checked.
type metadata struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	JWKS          string `json:"jwks_uri"`
	UserInfo      string `json:"userinfo_endpoint"`
	EndSession    string `json:"end_session_endpoint"`
	// SendsIssuer: answers of the authorization endpoint carry iss (RFC 9207 3).
	SendsIssuer bool `json:"authorization_response_iss_parameter_supported"`
}

const wellKnown = "/.well-known/openid-configuration"

func newProvider(cfg Provider, deps Deps) (*provider, error) {
	roots, err := readRoots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	p := &provider{
		name: cfg.Name, issuer: cfg.Issuer, discovery: cfg.DiscoveryURL,
		clientID: cfg.ClientID, clientSecret: cfg.ClientSecret.Reveal(), authStyle: oauth2.AuthStyleInHeader,
		prompt: cfg.Prompt, scopes: slices.Clone(cfg.Scopes), prefix: cfg.SubjectPrefix, trustEmail: cfg.TrustEmail,
		signIn: cfg.ClientID != "", audiences: slices.Clone(cfg.Bearer.Audiences), algorithms: cfg.Bearer.algorithms(),
		leeway: cfg.Bearer.leeway(), client: newClient(roots, deps.Transport),
	}
	if p.discovery == "" {
		p.discovery = strings.TrimSuffix(cfg.Issuer, "/") + wellKnown
	}
	if cfg.ClientAuth == "post" {
		p.authStyle = oauth2.AuthStyleInParams
	}
	if len(p.scopes) == 0 {
		p.scopes = []string{oidc.ScopeOpenID, "email", "profile"}
	}
	for _, d := range cfg.EmailDomains {
		domain, ok := asciiDomain(d)
		if !ok {
			return nil, fmt.Errorf("email_domains: %q is not a domain name", d)
		}
		p.domains = append(p.domains, domain)
	}
	if deps.Redact != nil && p.clientSecret != "" {
		deps.Redact(p.clientSecret)
	}
	return p, nil
}

// connect makes the documents fetchable; owner ends the fetches.
func (p *provider) connect(o *owner, clock func() time.Time) {
	p.metadata = &remote[*metadata]{
		name: "discovery document of " + p.name, owner: o, clock: clock, fetch: p.fetchMetadata,
		same: func(a, b *metadata) bool { return *a == *b },
	}
	p.keys = &remote[*keySet]{
		name: "key set of " + p.name, owner: o, clock: clock, fetch: p.fetchKeys, same: sameKeys,
	}
}

func (p *provider) fetchMetadata(ctx context.Context) (*metadata, error) {
	body, err := getDocument(ctx, p.client, p.discovery, "")
	if err != nil {
		return nil, err
	}
	var m metadata
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, errors.New("is not a discovery document")
	}
	if m.Issuer != p.issuer {
		return nil, fmt.Errorf("names the issuer %q, configured is %q; they must be equal", clip(m.Issuer), p.issuer)
	}
	plain := strings.HasPrefix(p.issuer, "http://")
	for _, e := range []struct {
		name, url string
		needed    bool
	}{
		{"authorization_endpoint", m.Authorization, p.signIn},
		{"token_endpoint", m.Token, p.signIn},
		{"jwks_uri", m.JWKS, true},
	} {
		if _, err := checkEndpoint(e.url, plain); err != nil && e.needed {
			return nil, fmt.Errorf("%s %w", e.name, err)
		}
	}
	for _, optional := range []*string{&m.UserInfo, &m.EndSession} {
		if _, err := checkEndpoint(*optional, plain); err != nil {
			*optional = ""
		}
	}
	return &m, nil
}

func (p *provider) fetchKeys(ctx context.Context) (*keySet, error) {
	m, err := p.metadata.get(ctx)
	if err != nil {
		return nil, err
	}
	body, err := getDocument(ctx, p.client, m.value.JWKS, "")
	if err != nil {
		return nil, err
	}
	return parseKeySet(body)
}

// clip bounds a provider's text in an error.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// oauth is the client of the code flow.
func (p *provider) oauth(m *metadata, redirect string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.clientID, ClientSecret: p.clientSecret, RedirectURL: redirect, Scopes: p.scopes,
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: p.authStyle},
	}
}

// oauthID is the user's key: subject_prefix and sub (LINK-1). It is not ok where an empty prefix would let this
// provider speak for another one's people.
func (p *provider) oauthID(subject string) (string, bool) {
	for _, prefix := range p.reserved {
		if strings.HasPrefix(subject, prefix) {
			return "", false
		}
	}
	return p.prefix + subject, true
}

// otherPrefixes are the prefixes that subs of provider i must not begin with: the others', if its own is empty.
func otherPrefixes(all []Provider, i int) []string {
	if all[i].SubjectPrefix != "" {
		return nil
	}
	var list []string
	for j, other := range all {
		if j != i && other.SubjectPrefix != "" {
			list = append(list, other.SubjectPrefix)
		}
	}
	return list
}

func (a *Auth) provider(name string) *provider {
	for _, p := range a.providers {
		if p.name == name {
			return p
		}
	}
	return nil
}

// ProviderState is how a provider was last met.
type ProviderState struct {
	Name string
	// Reached is when its discovery document was last fetched, zero if never.
	Reached time.Time
	// Err is why the last fetch of one of its documents failed, nil if it did not.
	Err error
}

// Providers says how the providers were last met, in the order of the configuration. It asks nobody.
func (a *Auth) Providers() []ProviderState {
	states := make([]ProviderState, len(a.providers))
	for i, p := range a.providers {
		states[i].Name = p.name
		states[i].Reached, states[i].Err = p.metadata.state()
		if _, err := p.keys.state(); states[i].Err == nil {
			states[i].Err = err
		}
	}
	return states
}

// sameURL compares two URLs but for one trailing slash.
func sameURL(a, b string) bool {
	return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/")
}

// checkPublicURL says whether public_url can be one: scheme and host, https unless the host is this machine.
func checkPublicURL(u *url.URL) error {
	switch {
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/"):
		return errors.New("must be scheme://host, without path, query or user")
	case u.Scheme == "https" || (u.Scheme == "http" && isLoopback(u.Hostname())):
		return nil
	default:
		return errors.New("must be https://; http:// only for loopback and *.localhost")
	}
}
