package assertion_test

import (
	"fmt"
	"net/http"

	"github.com/tenantgate/tenantgate/assertion"
)

// An app lets in only what came through the gate, and opens only the database that the gate named for it.
func Example() {
	gate, err := assertion.New(assertion.Config{
		JWKSURL:  "https://app.example.com/_gate/jwks.json",
		Issuer:   "https://app.example.com",
		Audience: "app",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := gate.FromRequest(r)
		if err != nil || !claims.MatchesDBURI(r.Header.Get("X-Tenant-Db-Uri")) {
			http.Error(w, "not through the gate", http.StatusForbidden)
			return
		}
		_, _ = fmt.Fprintf(w, "user %s of tenant %s is %s\n", claims.User, claims.Tenant, claims.Role)
	})
	_ = http.Server{Addr: "127.0.0.1:3000", Handler: app}
	_, err = gate.FromRequest(&http.Request{Header: http.Header{}})
	fmt.Println(err)
	// Output: request has not exactly one assertion
}
