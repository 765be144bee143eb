package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"

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

// EnterAdmin says who presents these credentials to the admin listener. A bearer token counts alone; only an admin token
// is good there. Errors: those of Authenticate, and ErrNotAdmin.
func (a *Auth) EnterAdmin(ctx context.Context, c Credentials) (Administrator, error) {
	id, err := a.AdminToken(ctx, c.Authorization)
	if err != nil {
		return Administrator{}, err
	}
	return Administrator{Identity: id}, nil
}

// AdminLogin serves /_gate/login of the admin listener.
func (a *Auth) AdminLogin(w http.ResponseWriter, r *http.Request) {
	a.refuse(w, r, codeNotSupportedYet, nil)
}

// AdminHandoff serves /_gate/handoff of the admin listener.
func (a *Auth) AdminHandoff(w http.ResponseWriter, r *http.Request) {
	a.refuse(w, r, codeNotSupportedYet, nil)
}

// AdminLogout serves /_gate/logout of the admin listener.
func (a *Auth) AdminLogout(w http.ResponseWriter, r *http.Request) {
	a.refuse(w, r, codeNotSupportedYet, nil)
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
	f, err := a.openAPIToken(ctx, text, catalog.TokenAdmin)
	if err != nil {
		return Identity{}, err
	}
	return f.identity(KindAdminToken), nil
}
