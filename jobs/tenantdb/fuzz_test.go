package tenantdb

import (
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// Whatever stands in admin_url or in somebody's db_url: no panic, no error that repeats it, and a tenant's URI that is made
// of an administrator's names the tenant's place and carries nothing of who the administrator is.
func FuzzURLs(f *testing.F) {
	for _, seed := range []string{
		"postgresql://admin:C4nary@db:5432/postgres?sslmode=require", "postgres://db", "postgresql+asyncpg://a:C4nary@[::1]:1/x?host=/run",
		"postgresql://a:C4nary@h1:1,h2:2/x?target_session_attrs=primary", "sqlite:///rel", "sqlite:////abs/dir", "sqlite:C4nary?x", "sqlite::memory:", "", ":", "enc:v1:x",
		"postgresql://a:C4nary@/x?host=%2Frun&sslcert=C4nary&password=C4nary&options=-c%20x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u := catalog.NewDBURI(text)
		place := Place{Tenant: "t", Database: "tg_t_x", Role: "tg_t_x", Mark: "m"}
		_ = Database(u)
		if place.Names(u) && !strings.Contains(text, place.Role) {
			t.Errorf("%q names the place", text)
		}
		err := CheckURL(u)
		if err != nil {
			if strings.Contains(text, "C4nary") && strings.Contains(err.Error(), "C4nary") {
				t.Errorf("%v", err)
			}
			return
		}
		s, err := New(Config{URL: u, Installation: "i"})
		if err != nil {
			t.Fatalf("CheckURL takes %q and New does not: %v", text, err)
		}
		if s.Engine() != catalog.EnginePostgreSQL {
			return
		}
		uri := s.URI(place, secret.New("tenants"))
		if !place.Names(uri) || Database(uri) != place.Database {
			t.Errorf("%q leads a tenant to %q", text, uri.Reveal())
		}
		if strings.Contains(uri.Reveal(), "C4nary") && strings.Count(text, "C4nary") == strings.Count(text, ":C4nary@")+strings.Count(text, "password=C4nary")+strings.Count(text, "sslcert=C4nary") {
			t.Errorf("%q gives a tenant %q", text, uri.Reveal())
		}
	})
}
