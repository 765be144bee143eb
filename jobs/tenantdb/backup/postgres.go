package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/internal/dbfault"
)

const (
	connectWait = 10 * time.Second
	// lockWait bounds the wait for somebody who changes the schema meanwhile.
	lockWait = "60s"
	// maxComplaint bounds what is read of a tool's standard error, in bytes.
	maxComplaint = 4096
)

// dumpPostgres exports one snapshot, in which pg_dump writes the archive and the tables are read again.
func dumpPostgres(ctx context.Context, cfg Config, work, dsn string) (_ *Copy, err error) {
	target, err := parseTarget(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := target.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeConn(ctx, conn)) }()
	version := conn.PgConn().ParameterStatus("server_version")
	tools, err := findTools(ctx, cfg.ToolDirs, version)
	if err != nil {
		return nil, err
	}
	snapshot, err := beginSnapshot(ctx, conn)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(work, DumpFile)
	if err := WriteFile(work, DumpFile, nil); err != nil { // with its mode, before anything is in it
		return nil, err
	}
	if err := tools.dump(ctx, target, snapshot, file); err != nil {
		return nil, err
	}
	copied, err := tools.readBack(ctx, file)
	if err != nil {
		return nil, err
	}
	tables, err := copied.against(ctx, conn)
	if err != nil {
		return nil, err
	}
	return &Copy{File: DumpFile, Engine: "postgresql", Server: version, Tool: tools.version, Tables: tables, Rows: sumRows(tables)}, nil
}

// target is where a database is, its secrets apart from the rest.
type target struct {
	config   *pgx.ConnConfig
	shown    string // the URI without secrets, for a command line
	password string
}

func parseTarget(dsn string) (target, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return target{}, errors.New("backup: db_url is no URI of a PostgreSQL database") // its own text repeats the URI
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return target{}, errors.New("backup: db_url names several hosts: that has to be copied by hand")
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	query := u.Query()
	if query.Has("sslpassword") {
		return target{}, errors.New("backup: db_url has sslpassword, which pg_dump takes on its command line alone: that has to be copied by hand")
	}
	query.Del("password")
	for name := range query {
		if !libpqKnows(name) {
			query.Del(name) // pgx's own and servers' parameters
		}
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return target{config: config, shown: u.String(), password: config.Password}, nil
}

// libpqKnows are the connection parameters that matter to pg_dump (PostgreSQL documentation, 34.1.2).
func libpqKnows(name string) bool {
	switch name {
	case "host", "hostaddr", "port", "dbname", "user", "passfile", "channel_binding", "connect_timeout", "options", "keepalives",
		"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslsni", "requirepeer", "gssencmode", "krbsrvname", "target_session_attrs":
		return true
	}
	return false
}

func (t target) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	config := t.config.Copy()
	config.RuntimeParams["application_name"] = "tenantgate backup"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("backup: connect with the tenant's URI: %s", reason(err))
	}
	return conn, nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectWait)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		return errors.New("backup: the connection did not end well")
	}
	return nil
}

// reason is what may be said of an engine's error: its own text may repeat data.
func reason(err error) string {
	c := dbfault.Of(err)
	if c.SQLState == "55P03" {
		return "somebody holds a lock on a table (SQLSTATE 55P03)"
	}
	return c.Text
}

// beginSnapshot begins the transaction that everything is read in. Settings are those of pg_dump, so that rows read alike.
func beginSnapshot(ctx context.Context, conn *pgx.Conn) (string, error) {
	for _, statement := range []string{
		"SET statement_timeout = 0", "SET idle_in_transaction_session_timeout = 0", "SET lock_timeout = '" + lockWait + "'",
		"SET datestyle = 'ISO'", "SET intervalstyle = 'postgres'", "SET extra_float_digits = 3", "SET synchronize_seqscans = off",
		"SET bytea_output = 'hex'", "SET row_security = off", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return "", fmt.Errorf("backup: begin: %s", reason(err))
		}
	}
	var encoding, snapshot string
	err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_encoding'), pg_catalog.pg_export_snapshot()").Scan(&encoding, &snapshot)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_catalog.set_config('client_encoding', $1, false)", encoding)
	}
	if err != nil {
		return "", fmt.Errorf("backup: export a snapshot: %s", reason(err))
	}
	return snapshot, nil
}

// tools are pg_dump and pg_restore of one version.
type tools struct {
	dumper, restorer string
	version          string
}

// findTools looks for a pg_dump that is not older than the server: of those the oldest, so that its archives are read by
// as many versions of pg_restore as can be.
func findTools(ctx context.Context, dirs []string, server string) (tools, error) {
	least := majorOf(server)
	if dirs == nil {
		dirs, _ = filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	}
	dirs = append(filepath.SplitList(os.Getenv("PATH")), dirs...)
	best, found := tools{}, ""
	for _, dir := range dirs {
		t := tools{dumper: filepath.Join(dir, "pg_dump"), restorer: filepath.Join(dir, "pg_restore")}
		out, err := exec.CommandContext(ctx, t.dumper, "--version").Output()
		if err != nil {
			continue
		}
		if _, err := exec.LookPath(t.restorer); err != nil {
			continue
		}
		t.version = strings.TrimSpace(string(out[:min(len(out), 100)]))
		if found = t.version; majorOf(t.version) < least {
			continue
		}
		if best.version == "" || majorOf(t.version) < majorOf(best.version) {
			best = t
		}
	}
	switch {
	case best.version != "":
		return best, nil
	case found != "":
		return tools{}, fmt.Errorf("backup: the server is PostgreSQL %d and the newest pg_dump here is older (%s): install postgresql-client-%d", least, found, least)
	}
	return tools{}, fmt.Errorf("backup: no pg_dump with its pg_restore on this machine: install postgresql-client-%d", least)
}

// majorOf reads the first number of a version's text; 0 without one.
func majorOf(version string) int {
	digits := regexp.MustCompile(`[0-9]+`).FindString(version)
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// environment is what a tool gets: nothing of ours but what finds libraries, certificates and a pgpass file.
func environment(password string) []string {
	env := []string{"LC_ALL=C", "PGCLIENTENCODING="}
	for _, name := range []string{"PATH", "HOME", "PGPASSFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "KRB5CCNAME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if password != "" {
		env = append(env, "PGPASSWORD="+password)
	}
	return env
}

func (t tools) dump(ctx context.Context, to target, snapshot, file string) error {
	cmd := exec.CommandContext(ctx, t.dumper, "--format=custom", "--no-password", "--snapshot="+snapshot, "--lock-wait-timeout="+lockWait,
		"--file="+file, "--dbname="+to.shown)
	cmd.Env = environment(to.password)
	cmd.WaitDelay = connectWait
	complaint := &capped{left: maxComplaint}
	cmd.Stderr = complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("backup: pg_dump failed (%w): %s", err, complaint.shown(to.password))
	}
	return nil
}

// capped keeps the beginning of what a tool says.
type capped struct {
	bytes.Buffer
	left int
}

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	c.Buffer.Write(p[:n])
	return len(p), nil
}

// shown is the complaint on one line, without the password, should a tool ever repeat it.
func (c *capped) shown(password string) string {
	s := strings.Join(strings.Fields(c.String()), " ")
	if password != "" {
		s = strings.ReplaceAll(s, password, "***")
	}
	return s
}

// archive is what an archive holds.
type archive struct {
	tables map[string]Table // by COPY's target: public.orders (id, total)
	blobs  int64
}

// readBack has pg_restore write the archive's data as text, and reads it: a cut or damaged archive does not get through.
func (t tools) readBack(ctx context.Context, file string) (_ *archive, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.restorer, "--section=data", "--file=-", file)
	cmd.Env = environment("")
	cmd.WaitDelay = connectWait
	complaint := &capped{left: maxComplaint}
	cmd.Stderr = complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("backup: pg_restore: %w", err)
	}
	a, err := readArchive(out)
	if err != nil {
		cancel()
	}
	if ended := cmd.Wait(); err == nil && ended != nil {
		err = fmt.Errorf("backup: the archive cannot be read back: pg_restore failed (%w): %s", ended, complaint.shown(""))
	}
	return a, err
}

// copyLine begins a table's data. There are no function bodies in an archive's data section that could look like it.
var copyLine = regexp.MustCompile(`^COPY ([^\r\n]+?) FROM stdin;$`)

// lineLimit bounds a line of an archive: PostgreSQL's 1 GB of a row, each byte written as four at most.
const lineLimit = 4 << 30

func readArchive(r io.Reader) (*archive, error) {
	a := &archive{tables: make(map[string]Table)}
	in := bufio.NewReaderSize(r, 1<<16)
	var table *tableHash
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) && len(line) < lineLimit {
			continue
		}
		text := strings.TrimSuffix(string(line), "\n")
		switch found := copyLine.FindStringSubmatch(text); {
		case table != nil && text == `\.`:
			if _, twice := a.tables[table.name]; twice {
				return nil, errors.New("backup: the archive holds a table twice")
			}
			a.tables[table.name] = table.sum()
			table = nil
		case table != nil && err == nil:
			table.add(line)
		case found != nil:
			table = newTableHash(strings.TrimSpace(found[1]))
		case strings.HasPrefix(text, "SELECT pg_catalog.lo_open("):
			a.blobs++
		}
		line = line[:0]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New("backup: the archive cannot be read back")
		}
	}
	if table != nil {
		return nil, errors.New("backup: the archive ends within a table")
	}
	return a, nil
}

type tableHash struct {
	name string
	rows int64
	hash hash.Hash
}

func newTableHash(name string) *tableHash { return &tableHash{name: name, hash: sha256.New()} }

func (t *tableHash) add(line []byte) {
	t.rows++
	_, _ = t.hash.Write(line) // a hash never fails
}

// Write implements io.Writer for COPY's output, which comes row by row.
func (t *tableHash) Write(p []byte) (int, error) {
	t.rows += int64(bytes.Count(p, []byte{'\n'}))
	return t.hash.Write(p)
}

func (t *tableHash) sum() Table {
	return Table{Name: t.name, Rows: t.rows, SHA256: hex.EncodeToString(t.hash.Sum(nil))}
}

// ordinaryTables counts tables whose rows pg_dump writes: not those of extensions, nor the system's.
const ordinaryTables = `SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// against reads every table of the archive from the database as well, in the snapshot, and compares. The archive must
// hold as many tables as the database has.
func (a *archive) against(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	var tables, blobs int64
	err := conn.QueryRow(ctx, ordinaryTables).Scan(&tables)
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata").Scan(&blobs)
	}
	if err != nil {
		return nil, fmt.Errorf("backup: count the tables: %s", reason(err))
	}
	if int64(len(a.tables)) < tables || blobs != a.blobs {
		return nil, fmt.Errorf("backup: the database has %d tables and %d large objects, the archive %d and %d", tables, blobs, len(a.tables), a.blobs)
	}
	inDatabase := make(map[string]Table, len(a.tables))
	for name := range a.tables {
		t := newTableHash(name)
		// The name is pg_dump's, quoted by it, on a connection that can only read what the tenant's own role may.
		if _, err := conn.PgConn().CopyTo(ctx, t, "COPY "+name+" TO STDOUT"); err != nil {
			return nil, fmt.Errorf("backup: read table %s again: %s", name, reason(err))
		}
		inDatabase[name] = t.sum()
	}
	return compare(inDatabase, a.tables)
}
