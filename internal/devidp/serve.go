package devidp

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Paths of our own; the library's are the ones that discovery names.
const (
	pathLogin     = "/login"
	pathSignedOut = "/signed-out"
	pathStyle     = "/style.css"
	discoveryPath = oidc.DiscoveryEndpoint
)

//go:embed page.html
var pageSource string

//go:embed style.css
var styleSource []byte

// routes serves what discovery names and our pages. The library has more endpoints (introspection, revocation, device
// authorization, JWT grants); they are not reachable.
func (p *Provider) routes() http.Handler {
	page := template.Must(template.New("page").Parse(pageSource))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+discoveryPath, p.serveDiscovery)
	for _, route := range []string{
		"GET " + p.op.AuthorizationEndpoint().Relative(),
		"POST " + p.op.AuthorizationEndpoint().Relative(),
		"POST " + p.op.TokenEndpoint().Relative(),
		"GET " + p.op.UserinfoEndpoint().Relative(),
		"POST " + p.op.UserinfoEndpoint().Relative(),
		"GET " + p.op.EndSessionEndpoint().Relative(),
		"POST " + p.op.EndSessionEndpoint().Relative(),
		"GET " + p.op.KeysEndpoint().Relative(),
	} {
		mux.Handle(route, p.op)
	}
	mux.HandleFunc("GET "+pathLogin, func(w http.ResponseWriter, r *http.Request) { p.serveLogin(w, r, page) })
	mux.HandleFunc("POST "+pathLogin, func(w http.ResponseWriter, r *http.Request) { p.pickPerson(w, r, page) })
	mux.HandleFunc("GET "+pathSignedOut, func(w http.ResponseWriter, _ *http.Request) {
		p.render(w, page, http.StatusOK, view{Title: "Signed out", Text: "You are signed out. You can close this window."})
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		p.render(w, page, http.StatusOK, view{
			Title: "Development sign-in",
			Text:  "This is the sign-in that " + p.name + " uses on this machine. Start from the app; it sends you here when you sign in.",
		})
	})
	mux.HandleFunc("GET "+pathStyle, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = w.Write(styleSource)
	})
	return p.guard(mux, page)
}

// guard refuses what did not mean this machine's provider and bounds what is read.
func (p *Provider) guard(next http.Handler, page *template.Template) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		// form-action also judges where an answered form redirects to (the app, on another port, then its tenants' hosts):
		// naming schemes keeps that working and javascript: out.
		h.Set("Content-Security-Policy",
			"default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self' http: https:")
		if !isLoopback(r.Host) {
			http.Error(w, "this development provider answers on loopback only; open "+p.issuer, http.StatusMisdirectedRequest)
			return
		}
		if err := p.store.Health(r.Context()); err != nil {
			p.render(w, page, http.StatusServiceUnavailable, view{Title: "Closed", Text: "The development provider is stopping."})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// serveDiscovery answers with what is really offered (OpenID Connect Discovery 1.0, section 3).
func (p *Provider) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	doc := op.CreateDiscoveryConfig(op.ContextWithIssuer(r.Context(), p.issuer), p.op, p.store)
	doc.IntrospectionEndpoint, doc.IntrospectionEndpointAuthMethodsSupported = "", nil
	doc.IntrospectionEndpointAuthSigningAlgValuesSupported = nil
	doc.RevocationEndpoint, doc.RevocationEndpointAuthMethodsSupported = "", nil
	doc.RevocationEndpointAuthSigningAlgValuesSupported = nil
	doc.DeviceAuthorizationEndpoint = ""
	doc.ResponseTypesSupported = []string{string(oidc.ResponseTypeCode)}
	doc.ResponseModesSupported = []string{string(oidc.ResponseModeQuery)}
	doc.GrantTypesSupported = []oidc.GrantType{oidc.GrantTypeCode}
	doc.TokenEndpointAuthMethodsSupported = []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc)
}

// view is what page.html shows: the people to pick from if Request is set, else Title and Text.
type view struct {
	Title   string
	Text    string
	Client  string
	Home    string
	Where   string // the client's host
	Request string // the sign-in's id
	People  []card
}

type card struct {
	Person
	Initials string
	Tint     int // 0 to 5
	First    bool
}

func (p *Provider) serveLogin(w http.ResponseWriter, r *http.Request, page *template.Template) {
	req, err := p.store.pending(r.URL.Query().Get("id"))
	if err != nil {
		p.renderEnded(w, page)
		return
	}
	v := view{Title: "Choose who to be", Request: req.id, Where: hostOf(req.redirect)}
	for i, who := range p.people {
		hinted := req.hint != "" && (req.hint == who.Subject || strings.EqualFold(req.hint, who.Email))
		v.People = append(v.People, card{Person: who, Initials: initials(who.Name), Tint: i % 6, First: hinted})
	}
	p.render(w, page, http.StatusOK, v)
}

// pickPerson ends the page: back to the client with a code, or with access_denied.
func (p *Provider) pickPerson(w http.ResponseWriter, r *http.Request, page *template.Template) {
	if err := p.origin.Check(r); err != nil {
		p.render(w, page, http.StatusForbidden, view{Title: "Not from here", Text: "Another site sent this form. Go back and start again."})
		return
	}
	id, subject := r.PostFormValue("id"), r.PostFormValue("subject")
	r = r.WithContext(op.ContextWithIssuer(r.Context(), p.issuer))
	if subject == "" {
		req, err := p.store.pending(id)
		if err != nil {
			p.renderEnded(w, page)
			return
		}
		_ = p.store.DeleteAuthRequest(r.Context(), id)
		p.refuse(w, r, req)
		return
	}
	req, err := p.store.pick(id, subject)
	if err != nil {
		p.renderEnded(w, page)
		return
	}
	op.AuthResponseCode(w, r, req, p.op)
}

// refuse tells the client that nobody was picked (RFC 6749, section 4.1.2.1).
func (p *Provider) refuse(w http.ResponseWriter, r *http.Request, req *authRequest) {
	target, err := url.Parse(req.redirect)
	if err != nil {
		http.Error(w, "bad redirect_uri", http.StatusBadRequest)
		return
	}
	q := target.Query()
	q.Set("error", "access_denied")
	q.Set("error_description", "nobody was picked")
	if req.state != "" {
		q.Set("state", req.state)
	}
	target.RawQuery = q.Encode()
	http.Redirect(w, r, target.String(), http.StatusFound)
}

func (p *Provider) renderEnded(w http.ResponseWriter, page *template.Template) {
	p.render(w, page, http.StatusBadRequest, view{
		Title: "This sign-in has ended",
		Text:  "It was already used, or the page was open for too long. Go back to the app and sign in again.",
	})
}

func (p *Provider) render(w http.ResponseWriter, page *template.Template, status int, v view) {
	v.Client, v.Home = p.name, p.home
	var buf bytes.Buffer
	if err := page.Execute(&buf, v); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w)
}

func hostOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return u.Host
}

// initials are the first letters of the first and the last word, at most two.
func initials(name string) string {
	words := strings.Fields(name)
	if len(words) == 0 {
		return "?"
	}
	pick := func(word string) string {
		r, _ := utf8.DecodeRuneInString(word)
		return string(unicode.ToUpper(r))
	}
	if len(words) == 1 {
		return pick(words[0])
	}
	return pick(words[0]) + pick(words[len(words)-1])
}
