package provision

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// urisAsked is how many of the tenants' URIs that name one database are asked which server they lead to.
const urisAsked = 3

// close takes CONNECT from PUBLIC on the host database, where it lies on the tenants' server, and on every tenant's
// database there, whoever made it. It happens before the role is made that would otherwise come in.
func (r *run) close(ctx context.Context) error {
	if r.server.Engine() != catalog.EnginePostgreSQL {
		return nil
	}
	identity, err := r.server.Identity(ctx)
	if err != nil {
		return err
	}
	var names []string
	host, database, err := r.deps.Host.HostPlace(ctx)
	switch {
	case err != nil:
		return err
	case host == identity:
		names = append(names, database)
	}
	own, err := r.recorded(ctx, identity)
	if err != nil {
		return err
	}
	others, err := r.foreign(ctx, identity, own)
	if err != nil {
		return err
	}
	names = append(names, others...)
	_, err = r.hold.CloseToPublic(ctx, append(names, slices.Sorted(maps.Keys(own))...))
	return err
}

// recorded are the names of the databases that provisioning made on the server.
func (r *run) recorded(ctx context.Context, identity string) (map[string]bool, error) {
	names := map[string]bool{}
	for after := ""; ; {
		page, next, err := r.deps.Host.TenantDatabases.List(ctx, catalog.Page{Limit: 1000, After: after, Filter: map[string]string{"server": identity}})
		if err != nil {
			return nil, err
		}
		for i := range page {
			if Step(page[i].Step).Reached(Database) || page[i].TenantID != r.spec.Tenant {
				names[page[i].DatabaseName] = true
			}
		}
		if after = next; after == "" {
			return names, nil
		}
	}
}

// foreign are the databases on the server that tenants' db_url name, that provisioning did not make, and that PUBLIC may
// connect to. A db_url that does not open or leads nowhere is the doctor's business: it keeps no other tenant from being.
func (r *run) foreign(ctx context.Context, identity string, own map[string]bool) ([]string, error) {
	named := map[string][]catalog.DBURI{}
	for after := ""; ; {
		page, next, err := r.deps.Host.Tenants.List(ctx, catalog.Page{Limit: 1000, After: after})
		if err != nil {
			return nil, err
		}
		for i := range page {
			uri, err := r.deps.Opener.Open(ctx, page[i].ID, page[i].DBURL)
			if err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				continue
			}
			if name := tenantdb.Database(uri); name != "" && !own[name] && len(named[name]) < urisAsked {
				named[name] = append(named[name], uri)
			}
		}
		if after = next; after == "" {
			break
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	found, err := r.server.Look(ctx, slices.Collect(maps.Keys(named)))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if slices.Contains(found[name].PublicRights, "CONNECT") && r.onServer(ctx, identity, named[name]) {
			names = append(names, name)
		}
	}
	return names, nil
}

// onServer reports whether one of the URIs leads to the server. One that nobody answers is judged by what it says.
func (r *run) onServer(ctx context.Context, identity string, uris []catalog.DBURI) bool {
	for _, uri := range uris {
		id, err := tenantdb.IdentityOf(ctx, uri)
		if err == nil && id == identity || err != nil && !errors.Is(err, context.Canceled) && address(uri) == address(r.cfg.AdminURL) {
			return true
		}
	}
	return false
}

// address is host and port as a URI writes them.
func address(uri catalog.DBURI) string {
	_, rest, _ := strings.Cut(uri.Reveal(), ":")
	u, err := url.Parse("postgresql:" + rest)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
