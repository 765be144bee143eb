package config

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// hostDatabase judges the form of the URL. Nothing of it is ever repeated: it holds a password.
func (v *validator) hostDatabase() {
	v.refs()
	raw := v.c.HostDatabase.URL.Reveal()
	if raw == "" {
		return // DB_*, or a file that was not read
	}
	path := "host_database.url"
	if v.c.HostDatabase.URLFile != "" {
		path = "host_database.url_file"
	}
	if hasControl(raw) {
		v.bad(path, "must be one line of text")
		return
	}
	scheme, rest, _ := strings.Cut(raw, ":")
	dialect, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	switch dialect {
	case "postgresql", "postgres":
		v.problem(path, cmp.Or(postgresProblem(rest), driverProblem(v.c.HostDatabase.URL)))
	case "sqlite":
		v.problem(path, sqliteProblem(rest))
	default:
		v.bad(path, "must begin with postgresql:// or sqlite:")
	}
}

// provisioning judges where tenants' databases are made. That no admin_url is there is found by whoever wants to make one.
func (v *validator) provisioning() {
	c := &v.c.Provisioning
	if hasControl(c.MigrationsDir) {
		v.bad("provisioning.migrations_dir", "must be one line of text")
	}
	raw := c.AdminURL.Reveal()
	if raw == "" {
		return // or a file that was not read
	}
	path := "provisioning.admin_url"
	if c.AdminURLFile != "" {
		path = "provisioning.admin_url_file"
	}
	if hasControl(raw) {
		v.bad(path, "must be one line of text")
		return
	}
	uri := catalog.NewDBURI(raw)
	engine := tenantdb.EngineOf(uri)
	problem := ""
	if engine == catalog.EnginePostgreSQL {
		_, rest, _ := strings.Cut(raw, ":")
		problem = postgresProblem(rest)
	}
	if err := tenantdb.CheckURL(uri); err != nil {
		problem = cmp.Or(problem, err.Error())
	}
	switch {
	case problem != "":
		v.bad(path, "%s", problem)
	case engine != c.Engine:
		v.bad("provisioning.engine", "is %s, and admin_url is for %s", c.Engine, engine)
	}
}

// refs judges what references in db_url may point at. Our own variables hold our own secrets: no tenant is given those.
func (v *validator) refs() {
	refs := v.c.HostDatabase.Refs
	switch {
	case strings.Contains(refs.EnvPrefix, "=") || hasControl(refs.EnvPrefix):
		v.bad("host_database.refs.env_prefix", "must be the beginning of a variable's name")
	case strings.HasPrefix(strings.ToUpper(refs.EnvPrefix), "TENANTGATE_"):
		v.bad("host_database.refs.env_prefix", "names tenantgate's own variables; choose another, such as TENANT_DB_")
	}
	if hasControl(refs.Dir) {
		v.bad("host_database.refs.dir", "must be one line of text")
	}
}

func sqliteProblem(rest string) string {
	file := rest
	if strings.HasPrefix(rest, "//") {
		var ok bool
		if file, ok = strings.CutPrefix(rest, "///"); !ok {
			return "sqlite has no host; write sqlite:PATH, sqlite:///relative or sqlite:////absolute"
		}
	}
	switch {
	case file == "":
		return "sqlite needs a file; write sqlite:PATH"
	case file == ":memory:" || strings.HasPrefix(file, "file:"):
		return "a database in memory does not last; write sqlite:PATH"
	case strings.Contains(file, "?"):
		return "sqlite takes no parameters; write sqlite:PATH"
	}
	return ""
}

// postgresProblem judges //user:password@host:port,host:port/name?parameters. Several hosts could lead to a standby,
// whose answers are old, unless the connection asks for the primary.
func postgresProblem(rest string) string {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "after postgresql: comes //user:password@host:5432/name"
	}
	authority, tail := rest, ""
	if at := strings.IndexAny(rest, "/?"); at >= 0 {
		authority, tail = rest[:at], rest[at:]
	}
	if strings.Contains(tail, "@") && !strings.Contains(authority, "@") {
		return "a / or ? in the user or the password must be written %2F or %3F"
	}
	hosts := authority[strings.LastIndexByte(authority, '@')+1:]
	name, query, _ := strings.Cut(strings.TrimPrefix(tail, "/"), "?")
	for _, part := range []string{authority, name} {
		if _, err := url.PathUnescape(part); err != nil {
			return "holds a % that is no escape; write %25 for a percent sign"
		}
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		return "the parameters after ? are not name=value&name=value"
	}
	several := strings.Contains(hosts, ",")
	for _, key := range []string{"host", "hostaddr", "port"} {
		several = several || slices.ContainsFunc(params[key], func(s string) bool { return strings.Contains(s, ",") })
	}
	switch target := params.Get("target_session_attrs"); {
	case several && target != "read-write" && target != "primary":
		return "names several hosts and must therefore say ?target_session_attrs=read-write or primary, so that it leads to the primary"
	case target == "read-only" || target == "standby" || target == "prefer-standby":
		return "asks for a standby by target_session_attrs; it must lead to the primary"
	}
	return ""
}

// driverProblem is what the driver does not take: a port that is no number, an unknown sslmode, a certificate that
// cannot be read.
func driverProblem(u catalog.DBURI) string {
	err := catalog.CheckURL(u)
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "host database url: ")
}

// uriPasswords returns the passwords in a database URL, as written and decoded.
func uriPasswords(raw string) []string {
	_, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil
	}
	var out []string
	authority := rest
	if at := strings.IndexAny(rest, "/?"); at >= 0 {
		authority = rest[:at]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if _, password, ok := strings.Cut(authority[:at], ":"); ok {
			out = append(out, password)
			if plain, err := url.PathUnescape(password); err == nil && plain != password {
				out = append(out, plain)
			}
		}
	}
	_, query, _ := strings.Cut(rest, "?")
	if params, err := url.ParseQuery(query); err == nil {
		out = append(out, params["password"]...)
		out = append(out, params["sslpassword"]...)
	}
	return out
}
