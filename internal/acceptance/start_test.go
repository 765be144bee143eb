package acceptance

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// Started without its database the proxy answers 503 from the first request, is not ready, and comes to work by itself
// once the database is there.
func TestStartedWithoutItsHostDatabase(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t)
	dsn := pg.URL(t)
	seed(t, dsn)
	pg.Stop(t)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people})
	if w.Gate.Waiting() == nil || w.Gate.Host() != nil {
		t.Fatal("the gate says that it has its database")
	}
	raw := &http.Client{Transport: w.Transport(), Timeout: patience}
	defer raw.CloseIdleConnections()
	token := bearer(t, w, "ada")
	for _, path := range []string{"/t/acme/", "/_gate/login", "/_gate/whoami", "/"} {
		res, body := fetch(t, raw, "GET", w.URL+path, token)
		if res.StatusCode != 503 || codeOf(body) != "host_database_unavailable" || res.Header.Get("Retry-After") == "" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %s %v", path, res.Status, body, res.Header)
		}
	}
	// A sign-out takes the cookie away all the same, unless another site asks for it.
	for site, clears := range map[string]bool{"same-origin": true, "cross-site": false} {
		header := map[string]string{"Sec-Fetch-Site": site}
		res, _ := fetch(t, raw, "POST", w.URL+"/_gate/logout", header)
		gone := strings.Join(res.Header["Set-Cookie"], "|")
		if res.StatusCode != 503 || clears != strings.Contains(gone, "|tg_session=; Path=/; Max-Age=0;") || strings.Contains(gone, "tg_admin") {
			t.Errorf("sign-out, %s: %s %q", site, res.Status, gone)
		}
		r := httptest.NewRequest("POST", "http://localhost/_gate/logout", nil)
		r.Header.Set("Sec-Fetch-Site", site)
		answer := httptest.NewRecorder()
		w.Gate.AdminHandler().ServeHTTP(answer, r)
		gone = strings.Join(answer.Header()["Set-Cookie"], "|")
		if answer.Code != 503 || clears != strings.Contains(gone, "|tg_admin=; Path=/; Max-Age=0;") || strings.Contains(gone, "tg_session") {
			t.Errorf("sign-out of the admin listener, %s: %d %q", site, answer.Code, gone)
		}
	}
	if status := readiness(t, w); status != http.StatusServiceUnavailable {
		t.Errorf("readiness: %d", status)
	}
	if err := w.Gate.Reload(t.Context(), w.Config); err != nil {
		t.Errorf("reload while waiting: %v", err)
	}
	pg.Start(t)
	eventually(t, patience, "requests are judged", func() bool {
		res, _ := fetch(t, raw, "GET", w.URL+"/t/acme/", token)
		return res.StatusCode == 200
	})
	if err := w.Gate.Waiting(); err != nil || w.Gate.Host() == nil {
		t.Errorf("still waiting: %v", err)
	}
	eventually(t, patience, "readiness", func() bool { return readiness(t, w) == http.StatusOK })
	if res, body := fetch(t, signedIn(t, w, "bob"), "GET", w.URL+"/t/acme/", nil); res.StatusCode != 200 {
		t.Errorf("a sign-in: %s %s", res.Status, body)
	}
	if err := w.Gate.Reload(t.Context(), w.Config); err != nil {
		t.Errorf("reload: %v", err)
	}
}

// What no waiting mends ends the wait: here a schema that lacks everything and may not be made.
func TestAWaitThatCannotEndWellSaysSo(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t)
	dsn := pg.URL(t)
	pg.Stop(t)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: notMigrating})
	pg.Start(t)
	select {
	case err := <-w.Gate.Failed():
		if err == nil {
			t.Error("failed without a reason")
		}
	case <-time.After(patience):
		t.Error("still waits")
	}
	raw := &http.Client{Transport: w.Transport(), Timeout: patience}
	defer raw.CloseIdleConnections()
	if res, body := fetch(t, raw, "GET", w.URL+"/", nil); res.StatusCode != 503 {
		t.Errorf("%s %s", res.Status, body)
	}
}

func notMigrating(cfg *config.Config) { cfg.HostDatabase.Migrate = new(false) }

func readiness(t *testing.T, w *gatetest.World) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	w.Gate.AdminHandler().ServeHTTP(answer, r)
	return answer.Code
}
