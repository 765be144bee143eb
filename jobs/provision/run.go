package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// run is one run for one tenant, which it has.
type run struct {
	*Provisioner
	server   tenantdb.Server
	hold     tenantdb.Hold
	spec     Spec
	id       string
	progress func(Event)

	asked    bool                    // by a row of sys_jobs, which others may have inserted: it begins tenants, and changes none
	began    bool                    // the record names this run
	record   *catalog.TenantDatabase // as begin left it
	place    tenantdb.Place
	password secret.Text
	uri      catalog.DBURI
	version  int64 // of its schema
}

func (r *run) all(ctx context.Context) error {
	ready, err := r.begin(ctx)
	if err != nil {
		return err
	}
	r.progress(Event{Step: Recorded, Done: true})
	if ready {
		r.progress(Event{Step: Ready, Done: true})
		return nil
	}
	// The password is new in each run that is to write db_url: what an earlier one set is nowhere.
	r.password = tenantdb.NewPassword()
	r.uri = r.server.URI(r.place, r.password)
	for _, s := range []struct {
		step Step
		do   func(context.Context) error
		rows func(context.Context, *catalog.Tx) error // written with the step
	}{
		{step: Closed, do: r.close},
		{step: Role, do: func(ctx context.Context) error { return r.hold.EnsureRole(ctx, r.place, r.password) }},
		{step: Database, do: func(ctx context.Context) error { return r.hold.EnsureDatabase(ctx, r.place) }},
		{step: Migrated, do: r.migrate, rows: r.schema},
		{step: Rows, rows: r.rows},
		{step: Checked, do: r.check},
		{step: Ready, rows: r.activate},
	} {
		r.progress(Event{Step: s.step})
		if s.do != nil {
			if err := s.do(ctx); err != nil {
				return err
			}
		}
		if err := r.advance(ctx, s.step, s.rows); err != nil {
			return err
		}
		r.progress(Event{Step: s.step, Done: true})
	}
	return nil
}

// begin puts the tenant on record under this run. ready says that there is nothing left to do.
func (r *run) begin(ctx context.Context) (ready bool, err error) {
	identity, err := r.server.Identity(ctx)
	if err != nil {
		return false, err
	}
	known, stored, err := r.before(ctx)
	if err != nil {
		return false, err
	}
	err = r.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		ready = false
		row, there, err := r.tenant(ctx, tx, stored)
		if err != nil {
			return err
		}
		record, err := r.onRecord(ctx, tx, identity, row, there)
		if err != nil {
			return err
		}
		r.record, r.place = record, tenantdb.PlaceOf(record, Step(record.Step).Reached(Database))
		if !stored.IsZero() && (known.IsZero() || !r.place.Names(known)) {
			return fmt.Errorf("%w: it has a db_url that provisioning did not make; it stays as it is", ErrRefused)
		}
		if ready = Step(record.Step).Reached(Ready) && !row.DBURL.IsZero(); !ready {
			return r.sameTenant(record, row)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	r.began = true
	if ready {
		if err := tenantdb.Ping(ctx, known); err != nil {
			return false, fmt.Errorf("it was provisioned, and its database cannot be reached by db_url: %w; `tenantgate tenant doctor` says more", err)
		}
	}
	return ready, nil
}

// before opens what stands in db_url, outside of any transaction: a reference reads files.
func (r *run) before(ctx context.Context) (uri, stored catalog.DBURI, err error) {
	row, err := r.deps.Host.Tenants.Get(ctx, r.spec.Tenant)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && row.DBURL.IsZero() {
		return uri, stored, nil
	}
	if err != nil {
		return uri, stored, err
	}
	uri, err = r.deps.Opener.Open(ctx, row.ID, row.DBURL)
	if err != nil {
		return uri, stored, fmt.Errorf("%w: it has a db_url that does not open: %s", ErrRefused, sealing.Reason(err))
	}
	return uri, row.DBURL, nil
}

// tenant finds or inserts the tenant's row, whose db_url is to be what was looked at before, and locks it, so that nobody
// deletes the tenant before its record is there.
func (r *run) tenant(ctx context.Context, tx *catalog.Tx, stored catalog.DBURI) (row *catalog.TenantCatalog, there bool, err error) {
	if r.spec.Owner != "" {
		if _, err := tx.GlobalUsers.Get(ctx, r.spec.Owner); err != nil {
			return nil, false, refuse(fmt.Errorf("owner %s: %w", catalog.ShownID(r.spec.Owner), err))
		}
	}
	row, err = tx.Tenants.Change(ctx, r.spec.Tenant, func(*catalog.TenantCatalog) error { return nil })
	if errors.Is(err, catalog.ErrNotFound) {
		row = &catalog.TenantCatalog{ID: r.spec.Tenant, IsActive: new(false)}
		fill(&row.Name, r.spec.Name)
		fill(&row.PlanTier, r.spec.PlanTier)
		return row, false, refuse(tx.Tenants.Insert(ctx, row))
	}
	if err != nil {
		return nil, false, err
	}
	states, err := tx.TenantStates(ctx, r.spec.Tenant)
	switch {
	case err != nil:
		return nil, false, err
	case states[r.spec.Tenant].Deletion != nil:
		return nil, false, fmt.Errorf("%w: the tenant is deleted: `tenantgate tenant restore` takes it back", ErrRefused)
	case row.DBURL != stored:
		return nil, false, errors.New("its db_url has just changed: run it again")
	case other(row.Name, r.spec.Name):
		return nil, false, fmt.Errorf("%w: the tenant is there and has another name; `tenantgate tenant update` changes it", ErrRefused)
	case other(row.PlanTier, r.spec.PlanTier):
		return nil, false, fmt.Errorf("%w: the tenant is there and has another plan_tier; `tenantgate tenant update` changes it", ErrRefused)
	}
	return row, true, nil
}

func fill(field **string, text string) {
	if text != "" && (*field == nil || **field == "") {
		*field = &text
	}
}

// other reports whether a row has something else than what is asked for.
func other(has *string, want string) bool {
	return want != "" && has != nil && *has != "" && *has != want
}

// refuse marks the catalog's refusals: a rule is broken, something is not there or cannot be stored.
func refuse(err error) error {
	for _, kind := range []error{catalog.ErrConflict, catalog.ErrNotFound, catalog.ErrLongID, catalog.ErrText} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return err
}

// onRecord finds or inserts the record, and has it name this run. there says that the tenant's row was there before.
func (r *run) onRecord(ctx context.Context, tx *catalog.Tx, identity string, row *catalog.TenantCatalog, there bool) (*catalog.TenantDatabase, error) {
	now := catalog.Timestamp(r.deps.Clock())
	record, err := tx.TenantDatabases.Change(ctx, r.spec.Tenant, func(d *catalog.TenantDatabase) error {
		if d.Engine != r.server.Engine() || d.Server != identity {
			return fmt.Errorf("%w: its database was begun on another server than the one that provisioning.admin_url names", ErrRefused)
		}
		if !there {
			return errReborn
		}
		if err := r.forWhom(d, row); err != nil {
			return err
		}
		d.Run, d.Problem, d.UpdatedAt = r.id, nil, now
		return nil
	})
	if !errors.Is(err, catalog.ErrNotFound) {
		return record, err
	}
	if r.asked && there {
		return nil, fmt.Errorf("%w: the tenant is there, and no job began it: `tenantgate tenant provision` gives it a database", ErrRefused)
	}
	place := r.server.NewPlace(r.spec.Tenant)
	record = &catalog.TenantDatabase{
		TenantID: r.spec.Tenant, Engine: r.server.Engine(), Server: identity, DatabaseName: place.Database, RoleName: place.Role,
		Mark: place.Mark, Step: string(Recorded), Run: r.id, TenantCreatedAt: new(text(row.CreatedAt)), UpdatedAt: now,
	}
	if r.spec.Owner != "" {
		record.UserID = new(string(r.spec.Owner))
	}
	return record, tx.TenantDatabases.Insert(ctx, record)
}

// errReborn keeps a tenant from getting what another one had whose id it was given.
var errReborn = fmt.Errorf("%w: the database on record is that of an earlier tenant of this id, whose row another program removed; "+
	"`tenantgate tenant doctor` says how it is removed", ErrRefused)

// sameTenant refuses a row that was not there when its record was made.
func (r *run) sameTenant(record *catalog.TenantDatabase, row *catalog.TenantCatalog) error {
	if record.TenantCreatedAt != nil && *record.TenantCreatedAt != text(row.CreatedAt) {
		return errReborn
	}
	return nil
}

// forWhom says who becomes the owner of a tenant that was begun. A job says the same as the one that began it, or nothing;
// one that is for a tenant which is finished already has nothing to say.
func (r *run) forWhom(d *catalog.TenantDatabase, row *catalog.TenantCatalog) error {
	switch {
	case r.spec.Owner == "" || d.UserID != nil && *d.UserID == string(r.spec.Owner):
	case !r.asked:
		d.UserID = new(string(r.spec.Owner))
	case !Step(d.Step).Reached(Ready):
		return fmt.Errorf("%w: the tenant was begun for another owner", ErrRefused)
	}
	if r.asked && Step(d.Step).Reached(Ready) && row.DBURL.IsZero() {
		return fmt.Errorf("%w: the tenant was finished and has lost its db_url: `tenantgate tenant provision` writes it anew", ErrRefused)
	}
	return nil
}

// advance writes a step down, and what belongs to it, if the record still names this run.
func (r *run) advance(ctx context.Context, step Step, rows func(context.Context, *catalog.Tx) error) error {
	return r.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		_, err := tx.TenantDatabases.Change(ctx, r.spec.Tenant, func(d *catalog.TenantDatabase) error {
			if d.Run != r.id {
				return ErrTaken
			}
			if step == Ready || !Step(d.Step).Reached(step) {
				d.Step = string(step)
			}
			d.UpdatedAt = catalog.Timestamp(r.deps.Clock())
			return nil
		})
		if err != nil || rows == nil {
			return err
		}
		return rows(ctx, tx)
	})
}

// note writes down why the run ended. Without a record there is nowhere to.
func (r *run) note(ctx context.Context, reason error) error {
	if !r.began || errors.Is(reason, ErrTaken) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), problemDeadline)
	defer cancel()
	_, err := r.deps.Host.TenantDatabases.Change(ctx, r.spec.Tenant, func(d *catalog.TenantDatabase) error {
		if d.Run == r.id {
			text := reason.Error()
			d.Problem, d.UpdatedAt = &text, catalog.Timestamp(r.deps.Clock())
		}
		return nil
	})
	return err
}

func (r *run) migrate(ctx context.Context) error {
	done, err := r.migrations.Up(ctx, r.uri)
	r.version = done.To
	return err
}

// schema puts the version on record, which `tenant migrate` goes on from. An earlier run may have done so.
func (r *run) schema(ctx context.Context, tx *catalog.Tx) error {
	was, err := tx.TenantSchema(ctx, r.spec.Tenant)
	if err != nil || r.version == 0 || was != nil {
		return err
	}
	_, err = tx.SawTenantSchema(ctx, nil, catalog.TenantSchema{TenantID: r.spec.Tenant, Version: r.version}, true,
		map[string]any{"from": 0, "to": r.version})
	return err
}

// check reaches the database the way a request would: by what stands in db_url.
func (r *run) check(ctx context.Context) error {
	uri, _, err := r.before(ctx)
	if err != nil {
		return err
	}
	if uri != r.uri || sealing.CheckURI(uri.Reveal()) != nil {
		return errors.New("db_url is not what was written: run it again")
	}
	return tenantdb.Ping(ctx, uri)
}

func (r *run) activate(ctx context.Context, tx *catalog.Tx) error {
	if !Step(r.record.Step).Reached(Ready) { // else who was suspended since stays so
		_, err := tx.Tenants.Change(ctx, r.spec.Tenant, func(t *catalog.TenantCatalog) error {
			t.IsActive = new(true)
			return nil
		})
		if err != nil {
			return refuse(err)
		}
	}
	return tx.Audit(ctx, "tenant.provisioned", string(r.spec.Tenant), map[string]any{
		"engine": r.server.Engine(), "database_name": r.place.Database, "role_name": r.place.Role,
	})
}
