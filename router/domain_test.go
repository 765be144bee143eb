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
