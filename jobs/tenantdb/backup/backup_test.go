package backup

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const canary = "c4nary-pa55w%25rd"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func now() time.Time { return time.Date(2026, 11, 28, 2, 15, 0, 0, time.UTC) }

// odd is a database with what dumps and their readers trip over.
const odd = `
CREATE TABLE orders (id bigserial PRIMARY KEY, note text, total numeric, at timestamptz DEFAULT now(), raw bytea, twice numeric GENERATED ALWAYS AS (total * 2) STORED);
INSERT INTO orders (note, total, raw) SELECT E'line\nbreak \\ tab\t "quote" ' || i, i / 7.0, decode(md5(i::text), 'hex') FROM generate_series(1, 500) i;
INSERT INTO orders (note) VALUES (NULL), (''), ('\.'), (E'\\.'), ('COPY public.orders (id) FROM stdin;'), (repeat('x', 200000));
CREATE TABLE "Odd name; DROP" ("select" int, "ü" text); INSERT INTO "Odd name; DROP" VALUES (1, 'é');
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; CREATE TABLE empty (a int);
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10); CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts SELECT i, 'v' || i FROM generate_series(0, 19) i;
CREATE SCHEMA more; CREATE TABLE more.orders (id int, f double precision); INSERT INTO more.orders VALUES (1, 0.1), (2, 1e300), (3, 'NaN');
CREATE FUNCTION looks() RETURNS text LANGUAGE sql AS $$ SELECT '
COPY public.orders (id) FROM stdin;
1
' $$;
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM orders;
SELECT lo_from_bytea(0, 'a large object');`

// tenant makes a database that a role of its own owns, and its URI.
func tenant(t *testing.T, role, text string) catalog.DBURI {
	t.Helper()
	admin, err := url.Parse(pgtest.New(t))
	must(t, err)
	name := strings.TrimPrefix(admin.Path, "/")
	pgtest.Exec(t, admin.String(), `CREATE ROLE `+role+` LOGIN PASSWORD 'c4nary-pa55w%rd'; ALTER DATABASE "`+name+`" OWNER TO `+role+`; GRANT ALL ON SCHEMA public TO `+role)
	t.Cleanup(func() {
		pgtest.Exec(t, admin.String(), `ALTER DATABASE "`+name+`" OWNER TO postgres; DROP OWNED BY `+role+` CASCADE; DROP ROLE `+role)
	})
	own := strings.Replace(admin.String(), admin.User.String(), role+":"+canary, 1)
	pgtest.Exec(t, own, text)
	return catalog.NewDBURI(strings.Replace(own, "postgresql://", "postgresql+psycopg2://", 1))
}

func TestPostgresCopyHoldsEveryRow(t *testing.T) {
	uri := tenant(t, "odd_owner", odd)
	dir := t.TempDir()
	made, err := Make(t.Context(), Config{Dir: dir, Name: "Acme & Söhne", Clock: now}, uri, func(dir string, made *Copy) error {
		text, err := json.Marshal(made)
		if err != nil {
			return err
		}
		return WriteFile(dir, "MANIFEST.json", text)
	})
	must(t, err)
	if len(made.Tables) != 7 || made.Rows != 500+6+1+1+20+3 || made.Engine != "postgresql" || len(made.SHA256) != 64 {
		t.Errorf("%+v", made)
	}
	onlyOwners(t, dir)
	if want := "t_Acme___S_hne_"; !strings.HasPrefix(filepath.Base(made.Path), want) || !strings.HasSuffix(made.Path, "-20261128T021500") {
		t.Errorf("stands at %s", made.Path)
	}
	again, err := Make(t.Context(), Config{Dir: dir, Name: "Acme & Söhne", Clock: now}, uri, nil)
	if err != nil || again.Path == made.Path {
		t.Errorf("the second of one second: %+v, %v", again, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+partial)); left != nil {
		t.Errorf("left: %v", left)
	}
	// What is restored is what was there.
	fresh := pgtest.New(t)
	restore := exec.CommandContext(t.Context(), pgtest.Tool(t, "pg_restore"), "--no-owner", "--exit-on-error", "--dbname", fresh, filepath.Join(made.Path, DumpFile))
	if out, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	back, err := Make(t.Context(), Config{Dir: dir, Name: "again", Clock: now}, catalog.NewDBURI(fresh), nil)
	must(t, err)
	if fmt.Sprint(back.Tables) != fmt.Sprint(made.Tables) {
		t.Errorf("restored: %v; want %v", back.Tables, made.Tables)
	}
}

// onlyOwners checks that nobody else can read anything.
func onlyOwners(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		return err
	}))
}

// stub puts a shell script in pg_dump's place; $REAL is the real one's directory.
func stub(t *testing.T, script string) Config {
	t.Helper()
	tools := t.TempDir()
	real := filepath.Dir(pgtest.Tool(t, "pg_dump"))
	text := "#!/bin/sh\nREAL=" + real + "\nif [ \"$1\" = --version ]; then exec $REAL/pg_dump --version; fi\n" + script + "\n"
	must(t, os.WriteFile(filepath.Join(tools, "pg_dump"), []byte(text), 0o755))
	must(t, os.Symlink(filepath.Join(real, "pg_restore"), filepath.Join(tools, "pg_restore")))
	t.Setenv("PATH", tools+":/usr/bin:/bin")
	return Config{Dir: t.TempDir(), Name: "acme", Clock: now}
}

func TestPasswordIsOnNoCommandLine(t *testing.T) {
	uri := tenant(t, "quiet_owner", "CREATE TABLE a (b int)")
	seen := filepath.Join(t.TempDir(), "seen")
	cfg := stub(t, `tr '\0' '\n' </proc/$$/cmdline >`+seen+`; [ -n "$PGPASSWORD" ] || exit 9; exec $REAL/pg_dump "$@"`)
	_, err := Make(t.Context(), cfg, uri, nil)
	must(t, err)
	line, err := os.ReadFile(seen)
	must(t, err)
	if !strings.Contains(string(line), "quiet_owner") || strings.Contains(string(line), "pa55w") {
		t.Errorf("pg_dump was called as %s", line)
	}
	target, err := parseTarget("postgresql://u@h/d?password=pa55word&sslmode=require&pool_max_conns=3&application_name=x&passfile=%2Fa%20b")
	must(t, err)
	if target.shown != "postgresql://u@h/d?passfile=%2Fa%20b&sslmode=require" || target.password != "pa55word" {
		t.Errorf("shown as %s", target.shown)
	}
	for _, bad := range []string{"postgresql://u:pa55word@h/d?sslpassword=pa55word", "postgresql://u:pa55word@h:1x/d", "postgresql://u:pa55word@h/d?sslmode=pa55word"} {
		if _, err := parseTarget(bad); err == nil || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%v", err)
		}
	}
}

// A copy that is not what the database held is found out, whatever made it so.
func TestCopyThatDiffersIsFoundOut(t *testing.T) {
	uri := tenant(t, "found_owner", "CREATE TABLE a (b text); INSERT INTO a SELECT md5(i::text) FROM generate_series(1, 20000) i; CREATE TABLE c (d int)")
	out := `for a in "$@"; do case $a in --file=*) f=${a#--file=};; esac; done; `
	for name, c := range map[string]struct{ script, want string }{
		"cut off":       {out + `$REAL/pg_dump "$@" || exit; size=$(stat -c %s "$f"); truncate -s $((size / 2)) "$f"`, "the archive"},
		"a bit flipped": {out + `$REAL/pg_dump "$@" || exit; size=$(stat -c %s "$f"); printf X | dd of="$f" bs=1 seek=$((size / 2)) conv=notrunc status=none`, "backup"},
		"a table less":  {`exec $REAL/pg_dump --exclude-table=c "$@"`, "2 tables"},
		"no rows":       {`exec $REAL/pg_dump --exclude-table-data=a "$@"`, "2 tables"},
		"another time":  {`n=; for a in "$@"; do case $a in --snapshot=*) ;; *) n="$n $a";; esac; done; PGOPTIONS= $REAL/psql -qc "DELETE FROM a WHERE ctid IN (SELECT ctid FROM a LIMIT 1)" "$(echo "$n" | sed 's/.*--dbname=//')" && exec $REAL/pg_dump $n`, "differs"},
		"empty":         {`exit 0`, "cannot be read back"},
		"it fails":      {`echo "password is $PGPASSWORD" >&2; exit 3`, "pg_dump failed"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := stub(t, c.script)
			_, err := Make(t.Context(), cfg, uri, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "pa55w") {
				t.Errorf("%v; want %q", err, c.want)
			}
			if left, _ := os.ReadDir(cfg.Dir); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestToolsMustNotBeOlderThanTheServer(t *testing.T) {
	if _, err := findTools(t.Context(), []string{t.TempDir()}, "99.1"); err == nil || !strings.Contains(err.Error(), "postgresql-client-99") {
		t.Errorf("%v", err)
	}
	t.Setenv("PATH", "")
	if _, err := findTools(t.Context(), []string{t.TempDir()}, "15.2"); err == nil || !strings.Contains(err.Error(), "no pg_dump") {
		t.Errorf("%v", err)
	}
	if found, err := findTools(t.Context(), nil, "15.2 (Debian)"); err != nil || majorOf(found.version) < 15 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestFailuresLeaveNothingAndSayNoPassword(t *testing.T) {
	dir := t.TempDir()
	good, err := url.Parse(pgtest.New(t))
	must(t, err)
	wrong := *good
	wrong.User = url.UserPassword("postgres", canary)
	for _, uri := range []string{wrong.String(), strings.Replace(good.String(), good.Path, "/none-"+canary, 1), "mysql://u:" + canary + "@h/d", "sqlite:" + dir + "/none.db", "", "ref:env:X"} {
		if _, err := Make(t.Context(), Config{Dir: dir, Name: "acme"}, catalog.NewDBURI(uri), nil); err == nil || strings.Contains(err.Error(), "c4nary") {
			t.Errorf("%v", err)
		}
	}
	for _, bad := range []string{filepath.Join(dir, "none"), os.Args[0]} {
		if _, err := Make(t.Context(), Config{Dir: bad, Name: "acme"}, catalog.NewDBURI(good.String()), nil); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	stop := errors.New("stop")
	if _, err := Make(t.Context(), Config{Dir: dir, Name: "acme"}, catalog.NewDBURI(good.String()), func(string, *Copy) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestLeftoversOfKilledProcessesGoAndOthersStay(t *testing.T) {
	dir := t.TempDir()
	dead, lock, err := workDir(dir, "acme")
	must(t, err)
	must(t, lock.Close())
	live, lock, err := workDir(dir, "acme")
	must(t, err)
	defer lock.Close()
	other, lock2, err := workDir(dir, "acme.1")
	must(t, err)
	must(t, lock2.Close())
	removePartial(dir, "acme")
	for path, there := range map[string]bool{dead: false, live: true, other: true} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNamesAreTellApart(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"acme", "Acme", "ACME", "a/cme", "a.cme", "..", "", "-x", "ä", "a", strings.Repeat("n", 90), strings.Repeat("n", 91), "t_Acme_", "a\x00b", "a\nb"} {
		f := fileName(name)
		if before, twice := seen[f]; twice || f == "" || len(f) > 60 || strings.ContainsAny(f, "/.\x00\n ") || f[0] == '-' {
			t.Errorf("%q is %q, as is %q", name, f, before)
		}
		seen[f] = name
	}
}

func TestSQLiteCopyHoldsEveryRow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tenant #1.db")
	db, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = db.ExecContext(t.Context(), `PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT, at DATETIME, raw BLOB);
		INSERT INTO orders (note, at, raw) VALUES ('a', '2026-01-01', x'00ff'), (NULL, NULL, NULL), (5, 7, 'text');
		CREATE TABLE "odd ""name" (a); INSERT INTO "odd ""name" VALUES (1.5); CREATE INDEX i ON orders (note);
		CREATE TABLE keyed (k TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO keyed VALUES ('b'), ('a')`)
	must(t, err)
	out := t.TempDir()
	for _, uri := range []string{"sqlite:" + path, "sqlite:///" + path, "sqlite+pysqlite:///" + path} {
		made, err := Make(t.Context(), Config{Dir: out, Name: "acme"}, catalog.NewDBURI(uri), nil)
		if err != nil || len(made.Tables) != 3 || made.Rows != 6 || made.File != SQLiteFile {
			t.Fatalf("%s: %+v, %v", uri, made, err)
		}
	}
	must(t, db.Close())
	onlyOwners(t, out)
	if _, err := Make(t.Context(), Config{Dir: out, Name: "acme"}, catalog.NewDBURI("sqlite:"+os.Args[0]), nil); err == nil {
		t.Error("what is no database was copied")
	}
}

func TestRowsHashApart(t *testing.T) {
	hashes := map[string]any{}
	for _, v := range []any{nil, "", []byte{}, "<nil>", int64(0), "0", 0.0, []byte("0"), true, time.Time{}} {
		h := newTableHash("x")
		hashValue(h.hash, v)
		s := h.sum().SHA256
		if before, twice := hashes[s]; twice {
			t.Errorf("%#v looks like %#v", v, before)
		}
		hashes[s] = v
	}
}
