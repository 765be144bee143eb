package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func good(now time.Time) State {
	return State{HostReached: true, LastLook: now.Add(-time.Second), KeysLoaded: true}
}

func newAdmin(t *testing.T, deps Deps) *Admin {
	t.Helper()
	if deps.State == nil {
		deps.State = func() State { return good(time.Now()) }
	}
	a, err := New(Config{PublicURL: "https://ops.example.com", MaxLookAge: 30 * time.Second}, deps)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ask(a http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}

func TestReadinessFailsOnEachConditionAlone(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name   string
		change func(*State)
		check  string // the one that fails; "" for none
	}{
		{"all well", func(*State) {}, ""},
		{"look exactly as old as allowed", func(s *State) { s.LastLook = now.Add(-30 * time.Second) }, ""},
		{"look too old", func(s *State) { s.LastLook = now.Add(-30*time.Second - 1) }, "host_database"},
		{"never reached", func(s *State) { s.HostReached = false }, "host_database"},
		{"no look yet", func(s *State) { s.LastLook = time.Time{} }, "host_database"},
		{"keys missing", func(s *State) { s.KeysLoaded = false }, "keys"},
		{"draining", func(s *State) { s.Draining = true }, "running"},
		{"provider down", func(s *State) { s.Providers = []Provider{{"google", "down"}} }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := good(now)
			tc.change(&state)
			w := ask(newAdmin(t, Deps{State: func() State { return state }, Clock: func() time.Time { return now }}), "GET", "/readyz")
			var got Readiness
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v in %s", err, w.Body)
			}
			wantStatus, wantWord := http.StatusOK, "ready"
			if tc.check != "" {
				wantStatus, wantWord = http.StatusServiceUnavailable, "not_ready"
			}
			if w.Code != wantStatus || got.Status != wantWord {
				t.Errorf("%d %s, want %d %s", w.Code, got.Status, wantStatus, wantWord)
			}
			for _, c := range got.Checks {
				if c.OK == (c.Name == tc.check) || c.OK == (c.Detail != "") {
					t.Errorf("check %+v, expected to fail: %q", c, tc.check)
				}
			}
			if got.Providers == nil || len(got.Providers) != len(state.Providers) {
				t.Errorf("providers %v, want %v", got.Providers, state.Providers)
			}
		})
	}
}

// HEALTH-1
func TestNoHeaderAndNoOtherPathIsAHealthCheck(t *testing.T) {
	a := newAdmin(t, Deps{})
	for _, target := range []string{
		"/", "/healthz/", "//healthz", "/Healthz", "/health%7A", "/healthz%2F", "/x/../healthz", "/healthz;a", "/api/v1/healthz",
		"/readyz/", "/metrics", "/console", "/%2568ealthz",
	} {
		for _, header := range [][]string{
			{"User-Agent", "kube-probe/1.30"},
			{"User-Agent", "GoogleHC/1.0"},
			{"X-Original-Url", "/healthz"},
			{"X-Rewrite-Url", "/healthz"},
			{"X-Forwarded-Uri", "/healthz"},
			{"X-Http-Method-Override", "GET"},
		} {
			w := ask(a, "GET", target, append(header, "Host", "ops.example.com")...)
			if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), `"code":"not_found"`) {
				t.Errorf("%s with %s: %d %s", target, header, w.Code, w.Body)
			}
		}
	}
}

func TestHealthAnswersAnyHostAndOnlyReading(t *testing.T) {
	a := newAdmin(t, Deps{})
	for _, host := range []string{"10.0.0.7:9901", "ops.example.com", "evil.example"} {
		w := ask(a, "GET", "/healthz", "Host", host, "Origin", "https://evil.example")
		if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"status":"alive"}` {
			t.Errorf("host %s: %d %s", host, w.Code, w.Body)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control %q", got)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		w := ask(a, method, "/readyz")
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
	if w := ask(a, "HEAD", "/healthz"); w.Code != http.StatusOK {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestMetricsComeFromTheirHandler(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1\n")) })
	w := ask(newAdmin(t, Deps{Metrics: metrics}), "GET", "/metrics", "Host", "10.0.0.7:9901")
	if w.Code != http.StatusOK || w.Body.String() != "up 1\n" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestForeignHostAndOriginAreRefused(t *testing.T) {
	a := newAdmin(t, Deps{})
	for _, tc := range []struct {
		host, origin string
		want         int
	}{
		{"ops.example.com", "", 404},
		{"OPS.example.com:443", "", 404},
		{"ops.example.com.", "", 404},
		{"localhost:9901", "", 404},
		{"LOCALHOST", "", 404},
		{"127.0.0.1:9000", "", 404},
		{"127.8.9.1", "", 404},
		{"[::1]:9901", "", 404},
		{"[::1]", "", 404},
		{"ops.example.com:8443", "", 403},
		{"rebound.evil.example:9901", "", 403}, // a name that was made to resolve to 127.0.0.1
		{"localhost.evil.example", "", 403},
		{"127.0.0.1.evil.example", "", 403},
		{"10.0.0.7:9901", "", 403},
		{"0.0.0.0:9901", "", 403},
		{"", "", 403},
		{"ops.example.com", "https://ops.example.com", 404},
		{"ops.example.com", "https://ops.example.com:443", 404},
		{"localhost:9901", "http://localhost:9901", 404},
		{"localhost:9901", "http://localhost:3000", 403},
		{"localhost:9901", "https://evil.example", 403},
		{"ops.example.com", "http://ops.example.com:80", 403},
		{"ops.example.com", "null", 403},
		{"ops.example.com", "https://ops.example.com/", 403},
		{"ops.example.com", "https://ops.example.com@evil.example", 403},
	} {
		header := []string{"Host", tc.host}
		if tc.origin != "" {
			header = append(header, "Origin", tc.origin)
		}
		if w := ask(a, "GET", "/api/v1/tenants", header...); w.Code != tc.want {
			t.Errorf("Host %q Origin %q: %d, want %d", tc.host, tc.origin, w.Code, tc.want)
		}
	}
	if w := ask(a, "GET", "/", "Host", "localhost", "Origin", "http://localhost", "Origin", "https://evil.example"); w.Code != 403 {
		t.Errorf("two Origins: %d", w.Code)
	}
}

func FuzzNothingIsOpenToAForeignHostOrOrigin(f *testing.F) {
	for _, seed := range [][2]string{
		{"localhost", ""},
		{"ops.example.com:443", "https://ops.example.com"},
		{"[::1]:9901", "http://[::1]:9901"},
		{"127.0.0.1.", "null"},
		{"[::ffff:127.0.0.1]", "http://localhost"},
		{"localhost.:80", "http://localhost.:80"},
		{"ops.example.com", "http://a@ops.example.com"},
	} {
		f.Add(seed[0], seed[1])
	}
	a, err := New(Config{PublicURL: "https://ops.example.com", MaxLookAge: time.Second}, Deps{State: func() State { return State{} }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host, origin string) {
		r := &http.Request{Method: "GET", Host: host, URL: &url.URL{Path: "/api/v1/tenants"}, Header: http.Header{}}
		if origin != "" {
			r.Header["Origin"] = []string{origin}
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code == http.StatusForbidden {
			return
		}
		lower := strings.ToLower(host)
		if !strings.HasPrefix(lower, "ops.example.com") && !strings.HasPrefix(lower, "localhost") && !strings.HasPrefix(lower, "127.") && strings.Count(lower, ":") < 2 {
			t.Errorf("Host %q: %d", host, w.Code)
		}
		if origin != "" && !strings.HasPrefix(strings.ToLower(origin), "https://ops.example.com") && !strings.EqualFold(strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(origin), "http://"), ":80"), lower) &&
			!strings.HasPrefix(strings.ToLower(origin), "http://"+strings.TrimSuffix(strings.TrimSuffix(lower, ":80"), ".")) {
			t.Errorf("Host %q Origin %q: %d", host, origin, w.Code)
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	state := func() State { return State{} }
	for _, tc := range []struct {
		name string
		cfg  Config
		deps Deps
	}{
		{"no scheme", Config{PublicURL: "ops.example.com", MaxLookAge: 1}, Deps{State: state}},
		{"other scheme", Config{PublicURL: "ftp://ops.example.com", MaxLookAge: 1}, Deps{State: state}},
		{"userinfo", Config{PublicURL: "https://a:hunter2@ops.example.com", MaxLookAge: 1}, Deps{State: state}},
		{"not a URL", Config{PublicURL: "https://%zz:hunter2@", MaxLookAge: 1}, Deps{State: state}},
		{"no age", Config{}, Deps{State: state}},
		{"no state", Config{MaxLookAge: 1}, Deps{}},
	} {
		_, err := New(tc.cfg, tc.deps)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := New(Config{MaxLookAge: time.Second}, Deps{State: state}); err != nil {
		t.Errorf("defaults: %v", err)
	}
}
