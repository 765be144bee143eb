package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// judgeRecords compares what provisioning recorded with what is on the server.
func (v *visit) judgeRecords(namedAlone bool) {
	byDatabase, byRole := map[string]tenantdb.Object{}, map[string]tenantdb.Object{}
	for _, o := range v.objects {
		byDatabase[o.Database], byRole[o.Role] = o, o
	}
	for id, record := range v.records {
		row := v.byID[id]
		if row == nil && namedAlone {
			continue
		}
		if row == nil {
			v.found(id, CheckOrphan, v.dropping(record.DatabaseName, record.RoleName)+"DELETE FROM "+v.table("sys_tenant_databases")+" WHERE tenant_id = "+literal(string(id)),
				"provisioning recorded database %s for a tenant that is not there: another program removed the row", record.DatabaseName)
			continue
		}
		if v.identity == "" || row.unfinished() || row.state.Deletion != nil && row.state.Deletion.PurgingAt != "" {
			continue
		}
		if record.Server != v.identity || record.Engine != v.deps.Server.Engine() {
			v.found(id, CheckServer, "set provisioning.admin_url to that server's administrator", "its database %s lies on another server than provisioning.admin_url leads to", record.DatabaseName)
			continue
		}
		o, there := byDatabase[record.DatabaseName]
		if !there {
			v.found(id, CheckDatabase, "restore it from a backup (docs/tenants-life.md), or: tenantgate tenant delete "+word(string(id)),
				"database %s, which provisioning made for it, is not there, or carries our mark no more", record.DatabaseName)
			continue
		}
		v.judgeObject(id, record, o)
		if role, there := byRole[record.RoleName]; record.RoleName != "" {
			v.judgeRole(id, record, role, there)
		}
	}
}

func (v *visit) judgeObject(id catalog.TenantID, record *catalog.TenantDatabase, o tenantdb.Object) {
	name, role := identifier(record.DatabaseName), identifier(record.RoleName)
	if record.Engine == catalog.EngineSQLite {
		if len(o.PublicRights) > 0 {
			v.found(id, CheckPublic, "chmod 600 "+word(record.Server+"/"+record.DatabaseName), "its file is not for its owner alone: %s", strings.Join(o.PublicRights, ", "))
		}
		return
	}
	if o.Owner != record.RoleName {
		v.found(id, CheckOwner, "ALTER DATABASE "+name+" OWNER TO "+role, "database %s belongs to %s and not to its own role", record.DatabaseName, o.Owner)
	}
	if !o.AllowConnections {
		v.found(id, CheckDatabase, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true", "database %s takes no connections", record.DatabaseName)
	}
	if len(o.PublicRights) > 0 {
		v.found(id, CheckPublic, "REVOKE ALL ON DATABASE "+name+" FROM PUBLIC", "everybody may use database %s: PUBLIC has %s", record.DatabaseName, strings.Join(o.PublicRights, ", "))
	}
}

func (v *visit) judgeRole(id catalog.TenantID, record *catalog.TenantDatabase, o tenantdb.Object, there bool) {
	role := identifier(record.RoleName)
	if !there {
		v.found(id, CheckRole, "restore it from a backup (docs/tenants-life.md)", "role %s is gone, or carries our mark no more", record.RoleName)
	}
	for _, right := range o.RoleRights {
		mend := "ALTER ROLE " + role + " NO" + right
		if group, ok := strings.CutPrefix(right, "member of "); ok {
			mend = "REVOKE " + identifier(group) + " FROM " + role
		}
		v.found(id, CheckRole, mend, "role %s may more than a tenant: %s", record.RoleName, right)
	}
}

// judgeGrants finds tenants' roles that were let into another tenant's database, or into the host's, by their names. Of
// databases that are nobody's it says nothing: PUBLIC may enter those.
func (v *visit) judgeGrants() {
	byRole, byDatabase := map[string]catalog.TenantID{}, map[string]string{}
	for database, tenant := range v.onHost {
		byDatabase[database] = "tenant " + string(tenant) + "'s"
	}
	for id, record := range v.records {
		if v.identity == "" || record.Server == v.identity {
			byDatabase[record.DatabaseName] = "tenant " + string(id) + "'s"
			byRole[record.RoleName] = id
		}
	}
	if v.host != "" {
		byDatabase[v.host] = "the host database"
	}
	for _, g := range v.granted {
		id, ours := byRole[g.Role]
		whose, private := byDatabase[g.Database]
		if !ours || !private || v.byID[id] == nil || v.records[id].DatabaseName == g.Database {
			continue
		}
		rights := strings.Join(g.Rights, ", ")
		v.found(id, CheckRole, "REVOKE "+rights+" ON DATABASE "+identifier(g.Database)+" FROM "+identifier(g.Role),
			"role %s was granted %s on database %s, which is %s", g.Role, rights, g.Database, whose)
	}
}

// judgeOrphans finds databases and roles that carry our mark and that no record names.
func (v *visit) judgeOrphans() {
	databases, roles := map[string]bool{}, map[string]bool{}
	for _, record := range v.records {
		databases[record.DatabaseName], roles[record.RoleName] = true, true
	}
	for _, o := range v.objects {
		switch {
		case o.Database != "" && !databases[o.Database] && !roles[o.Role]:
			v.found("", CheckOrphan, strings.TrimSuffix(v.dropping(o.Database, o.Role), "; "), "database %s carries our mark and belongs to no tenant", o.Database)
		case o.Database != "" && !databases[o.Database]:
			v.found("", CheckOrphan, "give it another owner or drop it: ALTER DATABASE "+identifier(o.Database)+" OWNER TO …", "database %s belongs to the role of a tenant whose database is another", o.Database)
		case o.Database == "" && o.Role != "" && !roles[o.Role]:
			v.found("", CheckOrphan, "DROP ROLE "+identifier(o.Role), "role %s carries our mark and belongs to no tenant", o.Role)
		}
	}
}

// judgePublic looks whether roles that were not named may enter the host database, or the databases of tenants that
// provisioning did not make.
func (v *visit) judgePublic(ctx context.Context) {
	if v.identity == "" || len(v.records) == 0 || v.deps.Server.Engine() != catalog.EnginePostgreSQL {
		return
	}
	names := []string{}
	if v.host != "" {
		names = append(names, v.host)
	}
	ours := map[string]bool{}
	for _, record := range v.records {
		ours[record.DatabaseName] = true
	}
	for name := range v.onHost {
		if !ours[name] && name != v.host {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	found, err := v.deps.Server.Look(ctx, names)
	if err != nil {
		v.found("", CheckServer, "look at provisioning.admin_url", "the rights on databases cannot be looked at: %v", err)
		return
	}
	private := map[string]bool{} // told of already
	for _, name := range names {
		if !slices.Contains(found[name].PublicRights, "CONNECT") {
			continue
		}
		what := "the host database "
		if name != v.host {
			what = "database "
		}
		private[name] = true
		v.found(v.onHost[name], CheckPublic, "grant CONNECT to each role that is to enter, then: REVOKE CONNECT ON DATABASE "+identifier(name)+" FROM PUBLIC",
			"every tenant's role may connect to %s%s: PUBLIC has CONNECT", what, name)
	}
	v.noteOpen(ctx, private)
}

// noteOpen tells of the databases that are no tenant's and not the host's, and that tenants' roles may therefore enter. To
// close them may shut others out: that is for those to say whose they are.
func (v *visit) noteOpen(ctx context.Context, private map[string]bool) {
	open, err := v.deps.Server.OpenToPublic(ctx)
	if err != nil {
		v.skip("databases that are nobody's: the rights on them cannot be looked at")
		return
	}
	for _, record := range v.records {
		private[record.DatabaseName] = true
	}
	open = slices.DeleteFunc(open, func(name string) bool { return private[name] })
	if len(open) == 0 {
		return
	}
	more := ""
	if n := len(open) - namesTold; n > 0 {
		open, more = open[:namesTold], fmt.Sprintf(" and %d more", n)
	}
	v.report.Notes = append(v.report.Notes, "tenants' roles may connect to databases that are no tenant's: "+strings.Join(open, ", ")+more+
		"; where nobody else needs one: REVOKE CONNECT ON DATABASE "+identifier(open[0])+" FROM PUBLIC")
}

// namesTold bounds how many databases a note names.
const namesTold = 10

// judgeLocks finds what runs that were killed left.
func (v *visit) judgeLocks(ctx context.Context) error {
	locks, err := v.deps.Host.TenantLocks(ctx)
	if err != nil {
		return err
	}
	for _, l := range locks {
		end, err := catalog.ParseTimestamp(l.ExpiresAt)
		over := err == nil && v.deps.Clock().After(end)
		remove := "DELETE FROM " + v.table("sys_tenant_locks") + " WHERE tenant_id = " + literal(string(l.TenantID)) + " AND holder = " + literal(l.Holder)
		switch {
		case v.byID[l.TenantID] == nil:
			v.found(l.TenantID, CheckLock, remove, "a lock of %q stands for a tenant that is not there", l.Holder)
		case over && strings.HasPrefix(l.Holder, holdPrefix):
			v.found(l.TenantID, CheckLock, "tenantgate tenant migrate "+word(string(l.TenantID)), "a run of `tenant migrate` that was killed left its pause, which has ended: %q", l.Holder)
		case err != nil && l.ExpiresAt != "":
			v.found(l.TenantID, CheckLock, remove, "the end of a lock of %q cannot be read, so that it never ends", l.Holder)
		}
	}
	return nil
}

// dropping are the statements that end a database and its role; each ends in "; ".
func (v *visit) dropping(database, role string) string {
	if v.deps.Server != nil && v.deps.Server.Engine() == catalog.EngineSQLite {
		return "remove the file " + database + "; "
	}
	s := "DROP DATABASE IF EXISTS " + identifier(database) + " WITH (FORCE); "
	if role != "" {
		s += "DROP ROLE IF EXISTS " + identifier(role) + "; "
	}
	return s
}

// table is how one of our own tables is called in a statement.
func (v *visit) table(name string) string {
	if v.deps.Host.Engine() == catalog.EnginePostgreSQL {
		return "tenantgate." + name
	}
	return name
}

func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
