// Package page draws tenantgate's own pages: denials, the chooser of providers, the tenant picker, plans, sign-out.
//
// Purpose: one layout and one look for everything that a browser may be shown by tenantgate itself, usable by keyboard
// and screen reader, at phone width, in the dark and without JavaScript. There is no script on any page and the
// content security policy allows none; the one style sheet is inline and named by its hash.
//
// Concurrency: Render may be called from any goroutine; nothing is kept between calls.
//
// Failure mode: a page that cannot be drawn is a 500 with a fixed text. Nothing is written before the whole page has
// been drawn, so that a half page never goes out. All text is escaped; a URL with a scheme other than http, https and
// mailto is replaced by html/template.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Data is what one page says. Every field but Heading may be absent.
type Data struct {
	// Title stands in the browser's tab; "": Heading.
	Title string
	// Heading is the one h1: what happened, in a few words.
	Heading string
	// Text are paragraphs below it: what it means and what to do next.
	Text []string
	// Who says as whom the reader is signed in, an e-mail address or a name; "" for nobody.
	Who string
	// Code is the machine's word for it (no_access …), shown small.
	Code string
	// RequestID is shown beside it; "": the response's X-Request-Id header, if that is set already.
	RequestID string
	// Items is a list: tenants, providers.
	Items []Item
	// Offers are what can be bought, side by side where there is room.
	Offers []Offer
	// Actions are the ways on, as links or as buttons.
	Actions []Action
	// FormTargets are origins (https://idp.example.com) or schemes (https:) beside our own origin to which a form of
	// this page may lead, by redirect too: Chromium applies form-action to the whole chain of redirects.
	FormTargets []string
	// Reload has the browser load the page again after that time, in whole seconds; 0: it stays.
	Reload time.Duration
}

// Offer is a plan.
type Offer struct {
	Title string
	// Badge is a word or two beside the title.
	Badge string
	// Current marks the one that the reader has.
	Current bool
	Text    string
	// Points are what it includes.
	Points []string
	// Prices are lines of their own, under the points.
	Prices []string
	// Note is small print.
	Note string
	// Actions buy it.
	Actions []Action
}

// Action is a link, or with Method POST a form with one button.
type Action struct {
	Label string
	URL   string
	// Method is GET (also "") or POST.
	Method string
	// Hidden are the form's fields; not used by links.
	Hidden map[string]string
	// Field is what the form asks for, above its button; nil: nothing. Only among Data's Actions.
	Field *Field
	// Primary marks the one action that most readers want.
	Primary bool
}

// Field is one line of text that a form asks for. It must not be left empty.
type Field struct {
	Name, Label, Value string
	// MaxLength in characters; 0: any.
	MaxLength int
}

// IsForm reports whether the action is a form; the template asks.
func (a Action) IsForm() bool { return strings.EqualFold(a.Method, http.MethodPost) }

// Item is a row of a list.
type Item struct {
	Title string
	Text  string
	// Badge is a word or two beside the title: a role, a plan, "Paused".
	Badge string
	// Current marks the one that is in use.
	Current bool
	// Failed marks one that did not work: by a sign of its own, beside what Badge says.
	Failed bool
	// Action opens it; nil for a row that cannot be opened.
	Action *Action
}

//go:embed page.html
var source string

//go:embed page.css
var css string

var layout = template.Must(template.New("page").Parse(strings.Replace(source, "{{css}}", css, 1)))

// styleHash is the CSP source of the style sheet as it stands in the page.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(css))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// view is what the template sees.
type view struct {
	Data
	Tab string
}

// Render writes the page with that status. Headers set before stay, but for those that a page of ours decides itself:
// content type and length, caching (no-store), content security policy, framing, sniffing and referrer.
func Render(w http.ResponseWriter, status int, d Data) {
	if d.RequestID == "" {
		d.RequestID = w.Header().Get("X-Request-Id")
	}
	v := view{Data: d, Tab: d.Title}
	if v.Tab == "" {
		v.Tab = d.Heading
	}
	var b bytes.Buffer
	if err := layout.Execute(&b, v); err != nil {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "the page could not be drawn", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy(d))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", referrer(d))
	if d.Reload > 0 {
		h.Set("Refresh", strconv.Itoa(int(max(d.Reload, time.Second).Seconds())))
	}
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// policy allows the style sheet and, where there is a form, its targets; nothing else.
func policy(d Data) string {
	p := "default-src 'none'; style-src " + styleHash + "; base-uri 'none'; frame-ancestors 'none'; form-action "
	if !hasForm(d) {
		return p + "'none'"
	}
	p += "'self'"
	for _, t := range d.FormTargets {
		if isSource(t) {
			p += " " + t
		}
	}
	return p
}

// isSource reports whether s can stand in a policy without ending its directive.
func isSource(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == ';' || c == ',' || c == '\'' || c == '"' {
			return false
		}
	}
	return s != ""
}

// referrer lets no page of ours be named to another site. Where there is a form our own origin must still see it:
// under no-referrer a browser sends "Origin: null" with the form, which a same-origin check has to refuse.
func referrer(d Data) string {
	if hasForm(d) {
		return "same-origin"
	}
	return "no-referrer"
}

func hasForm(d Data) bool {
	for _, a := range d.Actions {
		if a.IsForm() {
			return true
		}
	}
	for _, it := range d.Items {
		if it.Action != nil && it.Action.IsForm() {
			return true
		}
	}
	for _, o := range d.Offers {
		for _, a := range o.Actions {
			if a.IsForm() {
				return true
			}
		}
	}
	return false
}
