package catalog

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// queries are the named statements of queries/*.sql in one engine's dialect. Immutable once loaded.
type queries map[string]string

// loadQueries reads every statement. It fails only if a file is malformed, which the tests of this package rule out.
func loadQueries(engine string) (queries, error) {
	files, err := fs.Glob(queryFiles, "queries/*.sql")
	if err != nil {
		return nil, err
	}
	qs := queries{}
	for _, file := range files {
		text, err := queryFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		_, sections, found := strings.Cut(string(text), "-- name: ")
		for found {
			var section string
			section, sections, found = strings.Cut(sections, "-- name: ")
			name, body, ok := strings.Cut(section, "\n")
			name = strings.TrimSpace(name)
			if _, double := qs[name]; !ok || double || name == "" {
				return nil, fmt.Errorf("%s: statement %q is empty or doubled", file, name)
			}
			qs[name] = dialect(engine, stripComments(body))
		}
	}
	return qs, nil
}

func stripComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			b.WriteString(line)
		}
	}
	return strings.TrimSpace(b.String())
}

// parameter matches PostgreSQL's $1; none of our statements has a $ in a literal.
const parameterPattern = `\$([0-9]+)`

// dialect turns the one text of a statement, written for PostgreSQL, into engine's. On SQLite our tables have no
// schema, text compares by bytes anyway, parameters are ?1, rows lock with the whole database, JSON's function has
// another name, and rows of the eight tables are told apart by rowid, since an id may be NULL there. A line that ends in
// "-- postgresql" or "-- sqlite" is that engine's alone. A parameter reads +?1 on SQLite, which is its value: once a file
// has been analyzed, SQLite would look at the value of a bare ?1 to choose a plan, and therefore compile the statement anew
// each time it is run, which costs four times what running it does.
func dialect(engine, text string) string {
	text = linesOf(engine, text)
	if engine == EnginePostgreSQL {
		return strings.ReplaceAll(text, "ROWKEY", "id")
	}
	text = regexp.MustCompile(parameterPattern).ReplaceAllString(text, "+?$1")
	text = regexp.MustCompile(`\b`+ownSchema+`\.([a-z])`).ReplaceAllString(text, "$1") // not the text 'tenantgate.'
	return strings.NewReplacer(
		` COLLATE "C"`, "",
		"jsonb_each_text(", "json_each(",
		" FOR UPDATE SKIP LOCKED", "",
		" FOR UPDATE", "",
		" CONCURRENTLY", "",
		"ROWKEY", "rowid",
	).Replace(text)
}

// linesOf drops the lines that are marked as another engine's, and the marks.
func linesOf(engine, text string) string {
	if !strings.Contains(text, "-- "+EnginePostgreSQL) && !strings.Contains(text, "-- "+EngineSQLite) {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		statement, marked, _ := strings.Cut(line, " -- ")
		switch strings.TrimSpace(marked) {
		case EnginePostgreSQL, EngineSQLite:
			if strings.TrimSpace(marked) == engine {
				b.WriteString(statement + "\n")
			}
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}
