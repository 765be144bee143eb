package attack

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// canary is a secret that was put into some input, or that went over the wire as one. Its text is found wherever it
// comes out, also by half, in another case, in base64 or in hex.
type canary struct {
	name, text string
	own        bool // the browser's own: a link on the same origin may lead it back to where it was
	given      bool // it really was in an input
}

// spill holds every canary and everything that the program told. It is safe for concurrent use.
type spill struct {
	mu       sync.Mutex
	canaries map[string]*canary // by text
	told     map[string]*bytes.Buffer
}

// ownLink is where a browser is led on within the same origin.
const ownLink = "local link"

func newSpill() *spill {
	return &spill{canaries: map[string]*canary{}, told: map[string]*bytes.Buffer{}}
}

// plant makes a canary of letters and digits, which every escaping leaves as they are.
func (s *spill) plant(name string) string {
	text := "CNRY" + rand.Text()
	s.add(name, text, false, false)
	return text
}

// plantOwn is plant for what a browser has in its address.
func (s *spill) plantOwn(name string) string {
	text := s.plant(name)
	s.add(name, text, false, true)
	return text
}

// plantGiven is plant for what is given to the program at once.
func (s *spill) plantGiven(name string) string { return s.input(s.plant(name)) }

// learn takes a secret that the program or the provider made: it is on its way already.
func (s *spill) learn(name, text string) { s.add(name, text, true, false) }

// learnOwn is learn for what stands in the address that a browser is at.
func (s *spill) learnOwn(name, text string) { s.add(name, text, true, true) }

func (s *spill) add(name, text string, given, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := strings.LastIndexAny(text, ".:"); i >= 0 {
		text = text[i+1:] // a JWT's signature, what is sealed of a state or a cookie
	}
	if len(text) < 16 {
		panic("a canary of " + fmt.Sprint(len(text)) + " bytes is too short to be told from other text: " + name)
	}
	if s.canaries[text] == nil {
		s.canaries[text] = &canary{name: name, text: text}
	}
	c := s.canaries[text]
	c.given, c.own = c.given || given, c.own || own
}

// input notes which canaries are in what the program is given, and returns it.
func (s *spill) input(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.canaries {
		c.given = c.given || strings.Contains(text, c.text)
	}
	return text
}

// tell keeps what the program told.
func (s *spill) tell(where, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told[where] == nil {
		s.told[where] = &bytes.Buffer{}
	}
	s.told[where].WriteString(text + "\n")
}

func (s *spill) text(where string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told[where] == nil {
		return ""
	}
	return s.told[where].String()
}

// fails keeps the text of an error, which there must be.
func (s *spill) fails(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	s.tell("error", fmt.Sprintf("%s: %v\n%+v\n%#v", what, err, err, err))
}

type teller struct {
	s     *spill
	where string
}

func (w teller) Write(p []byte) (int, error) {
	w.s.tell(w.where, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// forms are the texts by which a canary is found: in any case (folded) and exactly.
func (c *canary) forms() (folded, exact []string) {
	const window = 10
	folded = []string{c.text[:window], c.text[len(c.text)-window:], hex.EncodeToString([]byte(c.text))[:2*window]}
	for pad := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte("   "[:pad] + c.text))[4:16]
		exact = append(exact, coded, strings.NewReplacer("+", "-", "/", "_").Replace(coded))
	}
	for i := range folded {
		folded[i] = strings.ToLower(folded[i])
	}
	return folded, exact
}

// leaks says where canaries are that must not be there.
func (s *spill) leaks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []string
	for where, told := range s.told {
		text := told.String()
		lower := strings.ToLower(text)
		for _, c := range s.canaries {
			if c.own && where == ownLink {
				continue
			}
			folded, exact := c.forms()
			at := -1
			for _, f := range folded {
				at = max(at, strings.Index(lower, f))
			}
			for _, f := range exact {
				at = max(at, strings.Index(text, f))
			}
			if at >= 0 {
				found = append(found, fmt.Sprintf("%s holds the %s: …%q…", where, c.name, lower[max(0, at-200):min(len(lower), at+60)]))
			}
		}
	}
	slices.Sort(found)
	return found
}

// tap is a client's transport: it notes what goes in and keeps what comes out of the gate.
type tap struct {
	s        *spill
	provider string // its host
	next     http.RoundTripper
}

var localLinks = regexp.MustCompile(`(?:href|action)="(/[^"]*)"`)

// RoundTrip implements http.RoundTripper.
func (p *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	p.s.input(req.URL.String() + "\n" + fmt.Sprint(req.Header))
	res, err := p.next.RoundTrip(req)
	if err != nil || req.URL.Host == p.provider {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		body = append(body, "(cut)"...) // a response that was cut off is one too
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	for _, link := range localLinks.FindAllStringSubmatch(string(body), -1) {
		p.s.tell(ownLink, link[1])
	}
	p.s.tell("answer", localLinks.ReplaceAllString(string(body), ""))
	header := res.Header.Clone()
	p.cookies(res.Cookies(), header)
	p.location(header)
	p.s.tell("answer", fmt.Sprint(header, res.Trailer))
	return res, nil
}

// cookies takes those that carry sessions and flows out of the answer: they are made for this browser.
func (p *tap) cookies(all []*http.Cookie, header http.Header) {
	header.Del("Set-Cookie")
	for _, c := range all {
		switch {
		case c.Value == "":
		case c.Name == sessionName:
			p.s.learn("session cookie", c.Value)
		case strings.HasPrefix(c.Name, "tg_flow_"):
			p.s.learn("flow cookie", c.Value)
		default:
			header.Add("Set-Cookie", c.String())
		}
	}
}

// location takes out of a redirect to the provider what the protocol has to carry there.
func (p *tap) location(header http.Header) {
	to, err := url.Parse(header.Get("Location"))
	if err != nil || header.Get("Location") == "" {
		return
	}
	if to.Host == "" {
		p.s.tell(ownLink, to.String())
		header.Del("Location")
		return
	}
	q := to.Query()
	carried := map[string]string{"state": "state", "nonce": "nonce", "id_token_hint": "ID token"}
	switch name := to.Hostname(); { // from one host of ours to another
	case strings.HasSuffix(name, "."+baseDomain) && to.Path == "/_gate/handoff":
		carried["code"] = "hand-off code"
	case name == "localhost" && to.Path == "/_gate/login":
		carried["handoff"] = "what a hand-off asks"
	}
	for name, what := range carried {
		if v := q.Get(name); v != "" {
			p.s.add(what, v, true, what == "state")
			q.Del(name)
		}
	}
	to.RawQuery = q.Encode()
	header.Set("Location", to.String())
}

// leakyProvider stands before a provider: it learns the secrets of the code flow and, told to, answers the redemption
// of a code by repeating all that it was sent.
type leakyProvider struct {
	*devidp.Provider
	s      *spill
	addr   string
	server *http.Server
	key    *ecdsa.PrivateKey

	mu   sync.Mutex
	mode string        // "" honest, refuse, break, garble
	late time.Duration // how far its clock is behind
}

func startLeakyProvider(t *testing.T, s *spill, clientSecret string, gates ...string) *leakyProvider {
	t.Helper()
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg := devidp.Config{
		Issuer: "http://" + l.Addr().String(), Key: key, ClientID: gatetest.ClientID, ClientSecret: secret.New(s.input(clientSecret)),
	}
	for _, name := range []string{"owner", "inactive", "unknown"} {
		cfg.People = append(cfg.People, devidp.Person{Subject: name, Email: name + "@people.test", EmailVerified: true})
	}
	for _, u := range gates {
		cfg.RedirectURIs = append(cfg.RedirectURIs, u+"/_gate/callback/dev")
		cfg.PostLogoutRedirectURIs = append(cfg.PostLogoutRedirectURIs, u+"/_gate/logout")
	}
	p := &leakyProvider{s: s, addr: l.Addr().String(), key: key}
	cfg.Clock = p.now
	if p.Provider, err = devidp.New(cfg); err != nil {
		t.Fatal(err)
	}
	p.serve(l)
	t.Cleanup(func() {
		if err := errors.Join(p.server.Close(), p.Provider.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *leakyProvider) serve(l net.Listener) {
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: patience}
	go func() { _ = p.server.Serve(l) }()
}

// down stops the provider until the returned function is called.
func (p *leakyProvider) down(t *testing.T) (up func()) {
	t.Helper()
	if err := p.server.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		l, err := net.Listen("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		p.serve(l)
	}
}

func (p *leakyProvider) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(-p.late)
}

// mint makes a bearer token that was issued so long ago, good for an hour.
func (p *leakyProvider) mint(t *testing.T, subject, audience string, ago time.Duration) string {
	t.Helper()
	p.mu.Lock()
	p.late = ago
	p.mu.Unlock()
	token, err := p.MintAccessToken(subject, audience, hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.late = 0
	p.mu.Unlock()
	p.s.add("bearer token of "+subject+" for "+audience, token, false, false)
	return token
}

func (p *leakyProvider) set(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
}

// ServeHTTP implements http.Handler.
func (p *leakyProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/token") {
		p.Provider.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	form, _ := url.ParseQuery(string(body))
	_, password, _ := r.BasicAuth()
	p.s.input(password)
	p.s.learnOwn("code", form.Get("code"))
	p.s.learn("PKCE verifier", form.Get("code_verifier"))
	p.mu.Lock()
	mode := p.mode
	p.mu.Unlock()
	echo := fmt.Sprintf("code %s verifier %s secret %s %s", form.Get("code"), form.Get("code_verifier"), password, r.Header.Get("Authorization"))
	switch mode {
	case "refuse":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": echo, "error_description": echo, "error_uri": "https://x/" + echo})
	case "break":
		http.Error(w, echo, http.StatusInternalServerError)
	case "garble":
		garble(w, "garbage "+strings.Join([]string{form.Get("code"), form.Get("code_verifier"), password}, ","))
	default:
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		p.Provider.ServeHTTP(rec, r)
		var tokens struct {
			Access string `json:"access_token"`
			ID     string `json:"id_token"`
		}
		if json.Unmarshal(rec.Body.Bytes(), &tokens) == nil && tokens.ID != "" {
			p.s.learn("access token of the sign-in", tokens.Access)
			p.s.learn("ID token", tokens.ID)
			// A refresh token that nobody asked for.
			rest := strings.TrimPrefix(strings.TrimSpace(rec.Body.String()), "{")
			rec.Body = bytes.NewBufferString(`{"refresh_token":"` + p.s.plantGiven("refresh token") + `",` + rest)
			rec.Header().Del("Content-Length")
		}
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}
}

// garble answers with what is no HTTP, so that a client's error may repeat it.
func garble(w http.ResponseWriter, echo string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, echo+"\r\n\r\n")
}
