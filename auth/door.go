package auth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
)

// doorKind is what a host is to people who sign in.
type doorKind uint8

const (
	// publicDoor is public_url: providers send people back here, and sign-ins for all other doors are made here.
	publicDoor doorKind = iota + 1
	// labelDoor is a single label under base_domain, of a tenant or of none: before sign-in all are alike.
	labelDoor
	// domainDoor is a verified custom domain. Its sessions reach its tenant alone.
	domainDoor
	// adminDoor is admin.public_url. Only is_sys_admin passes, membership or not.
	adminDoor
)

// door is a place at which people are signed in, each with sessions of its own.
type door struct {
	kind   doorKind
	scope  string // what sessions and hand-offs are bound to: sys_sessions.host
	origin string // scheme://host[:port]
	name   string // what the host names: a label, a domain; "" for the others
	tenant catalog.TenantID
	names  cookieNames
}

// host is the scope without what keeps it apart: what an ask names the door by.
func (d *door) host() string { return strings.TrimPrefix(d.scope, adminScope) }

// adminScope keeps the sessions of the admin listener apart from those of a public_url on the same host.
const adminScope = "admin|"

// errBadHost: nobody signs in at this host.
var errBadHost = errors.New("nobody signs in at this host")

func (a *Auth) publicDoor() *door {
	return &door{kind: publicDoor, scope: a.origins.publicHost, origin: a.origins.public.String(), names: a.names}
}

// adminDoor is nil without admin.public_url.
func (a *Auth) adminDoor() *door {
	u := a.origins.admin
	if u == nil {
		return nil
	}
	names := namesFor(u.Scheme == "https")
	names.session = strings.TrimSuffix(names.session, sessionCookie) + adminCookie
	names.flow = strings.TrimSuffix(names.flow, flowCookie) + adminFlowCookie
	return &door{kind: adminDoor, scope: adminScope + u.Host, origin: u.String(), names: names}
}

// doorOf says what a host of the public listener is; errBadHost where nobody signs in. public_url's scheme and port
// hold for all of them.
func (a *Auth) doorOf(ctx context.Context, host string) (*door, error) {
	o := &a.origins
	if host == o.publicHost {
		return a.publicDoor(), nil
	}
	d := &door{kind: labelDoor, scope: host, names: a.names}
	d.origin = (&url.URL{Scheme: o.public.Scheme, Host: withPort(host, o.public.Port())}).String()
	if o.baseDomain != "" {
		if label, ok := strings.CutSuffix(host, "."+o.baseDomain); ok && isLabel(label) {
			d.name = label
			return d, nil
		}
	}
	if !isDomainName(host) {
		return nil, errBadHost
	}
	tenant, err := a.domainTenant(ctx, host)
	if err != nil {
		return nil, err
	}
	if tenant == "" {
		return nil, errBadHost
	}
	d.kind, d.name, d.tenant = domainDoor, host, tenant
	return d, nil
}

func withPort(host, port string) string {
	if port == "" {
		return host
	}
	return host + ":" + port
}

// atDoor sets what all our answers share, refuses other methods, and finds the door that was asked. nil: answered.
func (a *Auth) atDoor(w http.ResponseWriter, r *http.Request, methods ...string) *door {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if !a.allows(w, r, methods...) {
		return nil
	}
	d, err := a.doorOf(r.Context(), normalHost(a.hostOf(r)))
	if err != nil {
		a.fail(w, r, err, "/")
		return nil
	}
	return d
}

// sessionAt finds the session that a browser has at a door, and counts as use of it. Errors as Authenticate's.
func (a *Auth) sessionAt(ctx context.Context, d *door, cookies []string) (*sessionFacts, error) {
	tokens, good, n := sessionTokens(cookies, d.names.session)
	if n == 0 {
		return nil, ErrUnauthenticated
	}
	failed := ErrSessionExpired
	for i := range good {
		f, err := a.open(ctx, &tokens[i], d.scope)
		if err == nil {
			a.used(tokens[i].key(), f.use, a.clock())
			return f, nil
		}
		failed = worse(failed, err)
	}
	return nil, failed
}

// mayPass says whether a user may be signed in at a door: with an active membership of the tenant that its host names,
// of any if it names none; at the admin listener with is_sys_admin. It reads; nothing is remembered. Whether there is
// such a tenant makes no difference to the question asked nor to the answer.
func (a *Auth) mayPass(ctx context.Context, user catalog.UserID, d *door) (bool, error) {
	var all []catalog.GrantFacts
	var err error
	switch {
	case d.kind == adminDoor:
		u, err := a.host.GlobalUsers.Get(ctx, user)
		if errors.Is(err, catalog.ErrNotFound) {
			return false, nil
		}
		return err == nil && u.IsSysAdmin != nil && *u.IsSysAdmin, err
	case d.kind == domainDoor:
		all = make([]catalog.GrantFacts, 1)
		all[0], err = a.host.GrantFacts(ctx, catalog.GrantQuery{User: user, Name: d.name, Kind: catalog.NameDomain})
	case d.kind == labelDoor && !a.ignoreHost:
		all = make([]catalog.GrantFacts, 1)
		all[0], err = a.host.GrantFacts(ctx, catalog.GrantQuery{User: user, Name: d.name, Kind: catalog.NameHost})
	default:
		all, err = a.host.UserGrants(ctx, user, nil, maxGrants)
	}
	for i := range all {
		for _, m := range all[i].Memberships {
			if t := all[i].Tenant; t != nil && (d.tenant == "" || t.ID == d.tenant) && m.IsActive != nil && *m.IsActive {
				return true, nil
			}
		}
	}
	return false, err
}

// maxGrants bounds the tenants that are looked through for one active membership.
const maxGrants = 1000
