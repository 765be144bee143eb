package tenantgate

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/router"
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
	clear := func(w http.ResponseWriter, _ *http.Request) { auth.ClearAdminSession(w) }
	d.gate.serving(clear, func(n *generation, w http.ResponseWriter, r *http.Request) { page(n.auth, w, r) }).ServeHTTP(w, r)
}

// refuse answers a request of either listener with a row of the denial table.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, code string, err error) {
	if router.Serves(r) {
		router.Refuse(w, r, code, err)
		return
	}
	if err != nil {
		g.telemetry.Logger.WarnContext(r.Context(), "request to the admin listener denied", "code", code, "error", err)
	}
	g.deniedAt(r, code, auth.RefusedUser(err))
	g.admin.TurnAway(w, r, router.Code(code))
}

// deniedAt counts a refusal of either listener, for the audit.
func (g *Gate) deniedAt(r *http.Request, code string, user catalog.UserID) {
	g.denials.Count(user, "", code, clientIP(r))
}

// clientIP is the address that counts: as far as trusted hops can be believed, and on the admin listener the peer's.
func clientIP(r *http.Request) netip.Addr {
	if router.Serves(r) {
		return router.ClientIP(r)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a unix socket
	}
	return peer.Addr().Unmap()
}
