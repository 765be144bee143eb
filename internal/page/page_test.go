package page

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func render(t *testing.T, d Data) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	Render(w, http.StatusForbidden, d)
	if w.Code != http.StatusForbidden {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w
}

func full() Data {
	return Data{
		Heading: "Choose a tenant", Text: []string{"You belong to several."}, Who: "olivia@example.com", Code: "tenant_required",
		Items: []Item{
			{Title: "Acme", Text: "acme", Badge: "owner", Current: true, Action: &Action{Label: "Open", URL: "/t/acme/"}},
			{Title: "Beta", Badge: "member", Action: &Action{Label: "Open", URL: "/_gate/tenants", Method: "POST", Hidden: map[string]string{"tenant": "beta"}}},
			{Title: "Gamma", Badge: "Paused"},
		},
		Actions: []Action{{Label: "Sign out", URL: "/_gate/logout", Method: "post", Hidden: map[string]string{"a": "1"}, Primary: true}, {Label: "Home", URL: "/"}},
	}
}

func TestPolicyNamesTheStyleAsItStandsInThePage(t *testing.T) {
	w := render(t, full())
	_, rest, ok := strings.Cut(w.Body.String(), "<style>")
	style, _, ok2 := strings.Cut(rest, "</style>")
	if !ok || !ok2 {
		t.Fatal("no style element")
	}
	sum := sha256.Sum256([]byte(style))
	want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, want) {
		t.Fatalf("policy %q lacks %q", csp, want)
	}
}

func TestPolicyAllowsNoScriptNoFrameAndOnlyNamedFormTargets(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		data       Data
	}{
		{"no form", "form-action 'none'", Data{Heading: "x", FormTargets: []string{"https://idp.example.com"}}},
		{"form", "form-action 'self' https://idp.example.com", Data{
			Heading: "x", Actions: []Action{{Label: "go", URL: "/", Method: "POST"}}, FormTargets: []string{"https://idp.example.com"},
		}},
		{"a target that would end the directive", "form-action 'self'", Data{
			Heading: "x", Actions: []Action{{Label: "go", URL: "/", Method: "POST"}}, FormTargets: []string{"x; script-src *", ""},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			csp := render(t, tc.data).Header().Get("Content-Security-Policy")
			if !strings.HasSuffix(csp, tc.want) || strings.Contains(csp, "script-src") {
				t.Fatalf("policy %q, want it to end with %q", csp, tc.want)
			}
			for _, must := range []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} {
				if !strings.Contains(csp, must) {
					t.Errorf("policy %q lacks %q", csp, must)
				}
			}
		})
	}
}

func TestTextIsEscapedAndScriptURLsAreReplaced(t *testing.T) {
	const evil = `<script>alert(1)</script>"'`
	d := Data{
		Title: evil, Heading: evil, Text: []string{evil}, Who: evil, Code: evil, RequestID: evil,
		Items:   []Item{{Title: evil, Text: evil, Badge: evil, Action: &Action{Label: evil, URL: "javascript:alert(1)"}}},
		Actions: []Action{{Label: evil, URL: "javascript:alert(1)", Method: "POST", Hidden: map[string]string{"k": evil}}},
	}
	body := render(t, d).Body.String()
	if strings.Contains(body, "<script") || strings.Contains(body, "javascript:") {
		t.Fatalf("page holds script:\n%s", body)
	}
}

func TestPageIsNeverStoredFramedOrNamedToOthers(t *testing.T) {
	h := render(t, Data{Heading: "x"}).Header()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := render(t, full()).Header().Get("Referrer-Policy"); got != "same-origin" {
		t.Errorf("a page with a form has Referrer-Policy %q: browsers would send Origin: null with it", got)
	}
}

func TestPageHasLandmarksForAScreenReader(t *testing.T) {
	body := render(t, full()).Body.String()
	for _, must := range []string{
		`<html lang="en">`, "<main>", "<h1>Choose a tenant</h1>", `name="viewport"`, "<title>Choose a tenant</title>",
		`aria-current="true"`, `<form method="post" action="/_gate/logout">`, `<input type="hidden" name="tenant" value="beta">`,
	} {
		if !strings.Contains(body, must) {
			t.Errorf("page lacks %s", must)
		}
	}
	if n := strings.Count(body, "<h1>"); n != 1 {
		t.Errorf("%d h1 elements", n)
	}
}

func TestRequestIDComesFromTheResponseWhereThePageNamesNone(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "abc-123")
	Render(w, http.StatusOK, Data{Heading: "x"})
	if !strings.Contains(w.Body.String(), "abc-123") {
		t.Fatal("request id missing")
	}
}
