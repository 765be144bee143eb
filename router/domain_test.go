package router

import (
	"testing"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

// A session of a custom domain reaches its tenant alone, whatever names another, also where Host is no source; and it
// is good only while the domain is verified and that tenant's.
func TestSessionOfACustomDomainReachesItsTenantAlone(t *testing.T) {
	host := testHost(t)
	for _, c := range []struct {
		name    string
		sources []string
		only    catalog.TenantID
		host    string
		path    string
		header  []string
		tenant  catalog.TenantID
		code    Code
	}{
		{"its tenant", nil, "globex", "portal.globex.test", "/", nil, "globex", ""},
		{"named twice", nil, "globex", "portal.globex.test", "/t/glx/", []string{"globex"}, "globex", ""},
		{"another by path", nil, "globex", "portal.globex.test", "/t/acme/", nil, "", TenantConflict},
		{"another by header, Host is no source", []string{"header"}, "globex", "portal.globex.test", "/", []string{"acme"}, "", NoAccess},
		{"another by path, Host is no source", []string{"path"}, "globex", "portal.globex.test", "/t/acme/", nil, "", NoAccess},
		{"its own by path, Host is no source", []string{"path"}, "globex", "portal.globex.test", "/t/globex/", nil, "globex", ""},
		{"not verified any more", nil, "globex", "soon.globex.test", "/t/globex/", nil, "", SessionExpired},
		{"another tenant's by now", nil, "acme", "portal.globex.test", "/t/acme/", nil, "", SessionExpired},
		{"no domain", nil, "globex", "app.example.com", "/t/globex/", nil, "", SessionExpired},
		{"from before the host was a custom domain", nil, "", "portal.globex.test", "/", nil, "", SessionExpired},
		{"the same, Host is no source", []string{"path"}, "", "portal.globex.test", "/t/acme/", nil, "", SessionExpired},
		{"of a host that is no custom domain", nil, "", "soon.globex.test", "/t/globex/", nil, "globex", ""},
		{"of public_url", nil, "", "app.example.com", "/t/globex/", nil, "globex", ""},
		{"on a user route", nil, "acme", "portal.globex.test", "/account/", nil, "", SessionExpired},
	} {
		cfg := everySource
		if c.sources != nil {
			cfg.Resolve = c.sources
		}
		e := testEngine(t, host, cfg)
		e.auth = person{User: "ada", Kind: auth.KindSession, OnlyTenant: c.only}
		v := e.Judge(t.Context(), &Facts{Method: "GET", Host: c.host, Path: c.path, TenantHeader: c.header}, nil)
		switch {
		case c.code != "":
			if v.Denial == nil || v.Denial.Code != c.code || v.Grant != nil || v.Denial.ClearSession != (c.code == SessionExpired) {
				t.Errorf("%s: %+v %+v", c.name, v.Denial, v.Grant)
			}
		case v.Grant == nil || v.Grant.Tenant.ID != c.tenant:
			t.Errorf("%s: %+v %+v", c.name, v.Denial, v.Grant)
		}
	}
}

// explain answers on a custom domain as a browser's request would be.
func TestExplainOfACustomDomain(t *testing.T) {
	host := testHost(t)
	g, _ := testGate(t, host, host, auth.Identity{})
	for path, code := range map[string]string{"/": "", "/t/acme/": "tenant_conflict"} {
		got := g.Explain(t.Context(), Question{User: "ada", Host: "portal.globex.test", Path: path})
		if got.Code != code || got.Allowed != (code == "") {
			t.Errorf("%s: %+v", path, got)
		}
	}
}
