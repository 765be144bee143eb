package demoapp

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed pages/style.css
var styleSource []byte

//go:embed pages/live.js
var scriptSource []byte

// views are the app's pages, parsed once.
type views struct {
	pages   map[string]*template.Template
	failure *template.Template
}

func newViews() (*views, error) {
	v := &views{pages: make(map[string]*template.Template)}
	funcs := template.FuncMap{"money": money, "bars": bars}
	for _, name := range []string{"invoices", "reports", "settings", "live", "request", "account"} {
		set, err := template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "pages/layout.html", "pages/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		v.pages[name] = set
	}
	var err error
	if v.failure, err = template.ParseFS(pageFiles, "pages/failure.html"); err != nil {
		return nil, fmt.Errorf("page failure: %w", err)
	}
	return v, nil
}

// show makes the handler of one page. Nothing is written before the page is complete.
func (a *App) show(name string) page {
	return func(w http.ResponseWriter, _ *http.Request, v *visit) {
		v.Page = name
		var buf bytes.Buffer
		if err := a.views.pages[name].Execute(&buf, v); err != nil {
			http.Error(w, "the page could not be made", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = buf.WriteTo(w)
	}
}

// money writes minor units with a thousands separator: 1,234.50.
func money(cents int64) string {
	sign := ""
	if cents < 0 {
		sign, cents = "−", -cents
	}
	whole := strconv.FormatInt(cents/100, 10)
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return fmt.Sprintf("%s%s.%02d", sign, whole, cents%100)
}

// bar is a line of a report; Width is out of 1000.
type bar struct {
	Label string
	Cents int64
	Width int64
}

// bars sums invoices by "month" or by "customer", in the order of the months, or the largest first.
func bars(by string, b *books) []bar {
	sums := make(map[string]int64)
	var order []string
	for i := len(b.Invoices) - 1; i >= 0; i-- {
		key := b.Invoices[i].Customer
		if by == "month" {
			key = b.Invoices[i].IssuedOn[:min(7, len(b.Invoices[i].IssuedOn))]
		}
		if _, ok := sums[key]; !ok {
			order = append(order, key)
		}
		sums[key] += b.Invoices[i].AmountCents
	}
	out := make([]bar, 0, len(order))
	largest := int64(1)
	for _, key := range order {
		label := key
		if at, err := time.Parse("2006-01", key); err == nil {
			label = at.Format("January 2006")
		}
		out = append(out, bar{Label: label, Cents: sums[key]})
		largest = max(largest, sums[key])
	}
	for i := range out {
		out[i].Width = max(4, out[i].Cents*1000/largest)
	}
	if by != "month" {
		slices.SortStableFunc(out, func(a, b bar) int { return cmp.Compare(b.Cents, a.Cents) })
	}
	return out
}

func asset(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "private, max-age=60")
		_, _ = w.Write(body)
	}
}

// serveRows is the tenant's rows as JSON, with whom the proxy says is asking.
func serveRows(w http.ResponseWriter, _ *http.Request, v *visit) {
	body, err := json.MarshalIndent(struct {
		Tenant string `json:"tenant"`
		User   string `json:"user"`
		Role   string `json:"role"`
		Plan   string `json:"plan"`
		*books
	}{v.Tenant, v.Who(), v.Role, v.Plan, v.Books}, "", "  ")
	if err != nil {
		http.Error(w, "the rows could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// serveEvents sends one event a tick (WHATWG HTML, 9.2) until the client goes, the server ends or an hour has passed.
func (a *App) serveEvents(w http.ResponseWriter, r *http.Request, v *visit) {
	select {
	case a.streams <- struct{}{}:
		defer func() { <-a.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many streams are open", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxStream)
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	ticker := time.NewTicker(a.tick)
	defer ticker.Stop()
	for n := 1; ; n++ {
		data, err := json.Marshal(map[string]any{
			"n": n, "time": a.clock().UTC().Format(time.TimeOnly), "tenant": v.Tenant, "company": v.Books.Company, "invoices": len(v.Books.Invoices),
		})
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\nevent: tick\ndata: %s\n\n", n, data); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// refusal is why a page is not shown, and the way on.
type refusal struct {
	Status      int
	Title, Text string
	Link, Label string // "" for none
	Prefix      string
}

// fail answers a browser with a page and anything else with a line of text.
func (a *App) fail(w http.ResponseWriter, r *http.Request, f refusal) {
	w.Header().Set("Cache-Control", "no-store")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(f.Status)
		_, _ = fmt.Fprintf(w, "%s: %s\n", f.Title, f.Text)
		return
	}
	f.Prefix = prefixOf(r)
	var buf bytes.Buffer
	if err := a.views.failure.Execute(&buf, f); err != nil {
		http.Error(w, f.Title, f.Status)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(f.Status)
	_, _ = buf.WriteTo(w)
}
