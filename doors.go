package tenantgate

import (
	"context"
	"net/http"

	"github.com/tenantgate/tenantgate/auth"
)

// doors are the admin listener's, of the configuration in force.
type doors struct{ gate *Gate }

// Enter implements admin.Doors.
func (d doors) Enter(ctx context.Context, c auth.Credentials) (auth.Administrator, error) {
	if err := d.gate.Waiting(); err != nil {
		return auth.Administrator{}, err
	}
	n := d.gate.acquire()
	defer n.release()
	return n.auth.EnterAdmin(ctx, c)
}

// Login implements admin.Doors.
func (d doors) Login(w http.ResponseWriter, r *http.Request) {
	d.serve((*auth.Auth).AdminLogin, w, r)
}

// Handoff implements admin.Doors.
func (d doors) Handoff(w http.ResponseWriter, r *http.Request) {
	d.serve((*auth.Auth).AdminHandoff, w, r)
}

// Logout implements admin.Doors.
func (d doors) Logout(w http.ResponseWriter, r *http.Request) {
	d.serve((*auth.Auth).AdminLogout, w, r)
}

func (d doors) serve(page func(*auth.Auth, http.ResponseWriter, *http.Request), w http.ResponseWriter, r *http.Request) {
	d.gate.serving(func(n *generation, w http.ResponseWriter, r *http.Request) { page(n.auth, w, r) }).ServeHTTP(w, r)
}
