package tenantgate_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// An app in the gate's own process: the grant says who asks, in which tenant, and where its data is.
func ExampleFromContext() {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, ok := tenantgate.FromContext(r.Context())
		if !ok {
			http.Error(w, "no tenant", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "%s is %s of %s on %s, data at %v", grant.User.Email, grant.Membership.Role, grant.Tenant.Name,
			grant.Plan.Key, grant.DBURI()) // DBURI().Reveal() opens it; printed, it hides the password
	})
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "tenantgate-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := "sqlite:" + filepath.Join(dir, "host.db")
	if err := invite(ctx, url); err != nil {
		log.Fatal(err)
	}
	world, err := gatetest.Start(ctx, gatetest.Options{ // gate.Middleware(app) on a listener, and a provider
		HostURL: url, App: app, Middleware: true,
		People: []devidp.Person{{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer world.Close()
	token, err := world.Bearer("ada", nil)
	if err != nil {
		log.Fatal(err)
	}
	client := world.Client()
	defer client.CloseIdleConnections()
	for _, path := range []string{"/t/acme/", "/t/globex/"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, world.URL+path, nil)
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			body = nil
		}
		fmt.Println(res.StatusCode, string(body))
	}
	// Output:
	// 200 ada@example.com is owner of Acme on pro, data at postgresql://acme:***@db/acme
	// 403
}

// invite makes ada the owner of acme, which pays.
func invite(ctx context.Context, url string) error {
	host, err := catalog.Open(ctx, url)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.InTx(ctx, func(tx *catalog.Tx) error {
		user := &catalog.GlobalUser{Email: new("ada@example.com"), OAuthID: new("ada")}
		if err := tx.GlobalUsers.Insert(ctx, user); err != nil {
			return err
		}
		if err := tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "acme", Name: new("Acme"), DBURL: catalog.NewDBURI("postgresql://acme:secret@db/acme")}); err != nil {
			return err
		}
		if err := tx.Memberships.Insert(ctx, &catalog.Membership{UserID: user.ID, TenantID: "acme", Role: new("owner")}); err != nil {
			return err
		}
		return tx.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: "acme", PlanTier: new("pro"), Status: new("active"), PaymentType: new("subscription")})
	})
}
