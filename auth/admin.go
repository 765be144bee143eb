package auth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// ErrNotAdmin: the credential is good, but its user is no system administrator.
var ErrNotAdmin = errors.New("not a system administrator")

// Administrator is who entered the admin listener: nobody by name with an admin token. is_sys_admin opens that listener
// and nothing else.
type Administrator struct {
	Identity
	Email string // of a session's user
}

// adminSessionLife is how long after the sign-in a session opens the admin listener, however much it is used.
const adminSessionLife = 12 * time.Hour

// staleForAdmin reports whether the person signed in too long ago for the admin listener.
func (a *Auth) staleForAdmin(f *sessionFacts) bool {
	return !a.clock().Before(f.created.Add(adminSessionLife))
}

// EnterAdmin says who presents these credentials to the admin listener. A bearer token counts alone, and only an admin
// token is good; without one it is the session of that listener's own cookie, of a user with is_sys_admin. Errors: those
// of Authenticate, and ErrNotAdmin.
func (a *Auth) EnterAdmin(ctx context.Context, c Credentials) (Administrator, error) {
	id, err := a.AdminToken(ctx, c.Authorization)
	if err == nil {
		return Administrator{Identity: id}, nil
	}
	d := a.adminDoor()
	if !errors.Is(err, ErrUnauthenticated) || d == nil {
		return Administrator{}, err
	}
	f, err := a.sessionAt(ctx, d, c.Cookies)
	switch {
	case err != nil:
		return Administrator{}, err
	case a.staleForAdmin(f), normalHost(c.Host) != normalHost(d.host()): // a cookie is good on one host alone
		return Administrator{}, refusedFor(ErrSessionExpired, f.row.UserID, f.known)
	case !f.sysAdmin:
		return Administrator{}, refusedFor(ErrNotAdmin, f.row.UserID, f.known)
	}
	who := Administrator{Identity: f.identity(), Email: f.email}
	if end := f.created.Add(adminSessionLife); end.Before(who.Expires) {
		who.Expires = end
	}
	return who, nil
}

// AdminLogin serves GET /_gate/login of the admin listener: public_url signs in, and hands on to admin.public_url who is
// a system administrator. The listener's other names lead there first: a cookie is good on one host alone.
func (a *Auth) AdminLogin(w http.ResponseWriter, r *http.Request) {
	d := a.atAdminDoor(w, r, http.MethodGet, http.MethodHead)
	if d == nil {
		return
	}
	if !sameHost(r.Host, a.origins.admin) {
		target := d.origin + loginPath
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		redirect(w, target)
		return
	}
	a.loginAt(w, r, d)
}

// sameHost compares a Host with a URL's, the scheme's own port, case and one trailing dot aside.
func sameHost(host string, u *url.URL) bool {
	asked := &url.URL{Scheme: u.Scheme, Host: host}
	return normalHost(host) == normalHost(u.Host) && effectivePort(asked) == effectivePort(u)
}

// AdminHandoff serves GET /_gate/handoff of the admin listener.
func (a *Auth) AdminHandoff(w http.ResponseWriter, r *http.Request) {
	if d := a.atAdminDoor(w, r, http.MethodGet); d != nil {
		a.handoffAt(w, r, d)
	}
}

// AdminLogout serves GET and POST /_gate/logout of the admin listener. It ends the sign-in on every host.
func (a *Auth) AdminLogout(w http.ResponseWriter, r *http.Request) {
	if d := a.adminDoor(); d != nil {
		a.logoutAt(w, r, d, func() { ClearAdminSession(w) })
		return
	}
	a.refuse(w, r, codeNotFound, nil)
}

// atAdminDoor is atDoor for the admin listener. nil: answered.
func (a *Auth) atAdminDoor(w http.ResponseWriter, r *http.Request, methods ...string) *door {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	d := a.adminDoor()
	if d == nil {
		a.refuse(w, r, codeNotFound, nil)
		return nil
	}
	if !a.allows(w, r, methods...) {
		return nil
	}
	return d
}

// AdminToken judges the Authorization headers of a request to the admin listener: an admin token alone is good there.
// Errors: ErrUnauthenticated without a bearer token; ErrInvalidToken; the host database's.
func (a *Auth) AdminToken(ctx context.Context, values []string) (Identity, error) {
	presented := false
	for _, v := range values {
		_, ok := cutBearer(v)
		presented = presented || ok
	}
	if !presented {
		return Identity{}, ErrUnauthenticated
	}
	token, _ := cutBearer(values[0])
	text, ok := strings.CutPrefix(token, adminTokenPrefix)
	if !ok || len(values) != 1 {
		return Identity{}, ErrInvalidToken
	}
	f, err := a.openAPIToken(ctx, text, catalog.TokenAdmin, true)
	if err != nil {
		return Identity{}, err
	}
	return f.identity(KindAdminToken), nil
}
