package provision

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// urisAsked is how many of the tenants' URIs that name one database are asked which server they lead to.
const urisAsked = 3

// CloseType comes round every CloseInterval and closes what came later: a database that a program has just named in a
// tenant's db_url. Who inserts a row of that type has it done at once.
const (
	CloseType     = jobs.Prefix + "close_to_public"
	CloseInterval = 5 * time.Minute
)

// CloseKind is how the job is run. What cannot be closed is told to refused, with the statement that would have to be run
// where the administrator may not, and keeps nothing else open. with is Kind's.
func CloseKind(with func(use func(*Provisioner) error) error, refused func(error)) jobs.Kind {
	return jobs.Kind{MaxAttempts: 3, Parallel: 1, Work: func(ctx context.Context, _ *jobs.Run) error {
		err := with(func(p *Provisioner) error { return p.CloseToPublic(ctx, refused) })
		if errors.Is(err, ErrRefused) { // no admin_url: there are no roles of ours to keep out
			return nil
		}
		return err
	}}
}

// EnqueueClosing has CloseType's work done soon, for a db_url that is written in the transaction. Before a tenant was
// provisioned there is nobody to keep out.
func EnqueueClosing(ctx context.Context, tx *catalog.Tx) error {
	begun, _, err := tx.TenantDatabases.List(ctx, catalog.Page{Limit: 1})
	if err != nil || len(begun) == 0 {
		return err
	}
	_, err = jobs.Enqueue(ctx, tx, jobs.Job{Type: CloseType, Key: "close_to_public"})
	return err
}

// close takes CONNECT from PUBLIC on the host database, where it lies on the tenants' server, and on every tenant's
// database there, whoever made it. It happens before the role is made that would otherwise come in. One that provisioning
// made was made closed: a tenant that opens its own, and keeps it open, stops no other tenant from being. The doctor tells.
func (r *run) close(ctx context.Context) error {
	names, own, err := r.public(ctx, r.server)
	if err != nil {
		return err
	}
	closed, kept, err := r.hold.CloseToPublic(ctx, slices.Concat(names, own))
	for _, name := range names {
		err = errors.Join(err, kept[name])
	}
	return errors.Join(err, r.closed(ctx, closed))
}

// CloseToPublic does the same for databases that came after the last run, once there is a tenant whose role could enter
// them. Those that cannot be closed are told to refused, one by one.
func (p *Provisioner) CloseToPublic(ctx context.Context, refused func(error)) (err error) {
	server, err := p.tenants(ctx)
	if err != nil {
		return err
	}
	begun, _, err := p.deps.Host.TenantDatabases.List(ctx, catalog.Page{Limit: 1})
	if err != nil || len(begun) == 0 {
		return err
	}
	names, own, err := p.public(ctx, server)
	if err != nil {
		return err
	}
	hold, err := server.Hold(ctx, "") // no tenant's: it is only a connection
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hold.Close()) }()
	closed, kept, err := hold.CloseToPublic(ctx, slices.Concat(names, own))
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		refused(kept[name])
	}
	return errors.Join(err, p.closed(ctx, closed))
}

// closed writes down what was closed. The server is another than the host database's, or may be: it cannot be done in one
// transaction with it.
func (p *Provisioner) closed(ctx context.Context, databases []string) error {
	if len(databases) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), problemDeadline)
	defer cancel()
	return p.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		for _, name := range databases {
			if err := tx.Audit(ctx, "database.closed_to_public", name, map[string]any{"database_name": name}); err != nil {
				return err
			}
		}
		return nil
	})
}

// public are the databases of the server that PUBLIC is to be kept out of; own are those that provisioning made.
func (p *Provisioner) public(ctx context.Context, server tenantdb.Server) (names, own []string, err error) {
	if server.Engine() != catalog.EnginePostgreSQL {
		return nil, nil, nil
	}
	identity, err := server.Identity(ctx)
	if err != nil {
		return nil, nil, err
	}
	host, database, err := p.deps.Host.HostPlace(ctx)
	switch {
	case err != nil:
		return nil, nil, err
	case host == identity:
		names = append(names, database)
	}
	recorded, err := p.recorded(ctx, identity)
	if err != nil {
		return nil, nil, err
	}
	others, err := p.foreign(ctx, server, identity, recorded)
	if err != nil {
		return nil, nil, err
	}
	return append(names, others...), slices.Sorted(maps.Keys(recorded)), nil
}

// recorded are the names of the databases that provisioning made on the server, or is making.
func (p *Provisioner) recorded(ctx context.Context, identity string) (map[string]bool, error) {
	names := map[string]bool{}
	for after := ""; ; {
		page, next, err := p.deps.Host.TenantDatabases.List(ctx, catalog.Page{Limit: 1000, After: after, Filter: map[string]string{"server": identity}})
		if err != nil {
			return nil, err
		}
		for i := range page {
			names[page[i].DatabaseName] = true
		}
		if after = next; after == "" {
			return names, nil
		}
	}
}

// foreign are the databases on the server that tenants' db_url name, that provisioning did not make, and that PUBLIC may
// connect to. A db_url that does not open or leads nowhere is the doctor's business: it keeps no other tenant from being.
func (p *Provisioner) foreign(ctx context.Context, server tenantdb.Server, identity string, own map[string]bool) ([]string, error) {
	named := map[string][]catalog.DBURI{}
	for after := ""; ; {
		page, next, err := p.deps.Host.Tenants.List(ctx, catalog.Page{Limit: 1000, After: after})
		if err != nil {
			return nil, err
		}
		for i := range page {
			uri, err := p.deps.Opener.Open(ctx, page[i].ID, page[i].DBURL)
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
	found, err := server.Look(ctx, slices.Collect(maps.Keys(named)))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if slices.Contains(found[name].PublicRights, "CONNECT") && p.onServer(ctx, identity, named[name]) {
			names = append(names, name)
		}
	}
	return names, nil
}

// onServer reports whether one of the URIs leads to the server. One that nobody answers is judged by what it says.
func (p *Provisioner) onServer(ctx context.Context, identity string, uris []catalog.DBURI) bool {
	for _, uri := range uris {
		id, err := tenantdb.IdentityOf(ctx, uri)
		if err == nil && id == identity || err != nil && !errors.Is(err, context.Canceled) && address(uri) == address(p.cfg.AdminURL) {
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
