package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/sealing"
)

// reference says whose id a column holds; its flag then takes more than ids.
type reference int

const (
	noReference reference = iota
	userReference
	tenantReference
)

// column is a column of a table as the command line sees it.
type column[T any] struct {
	name  string // as in the table, and in JSON
	usage string
	bind  func(*T) cell
	refer reference
	// flags: what of the column can be given.
	fixed  bool // once, at create
	silent bool // never: it is shown only
	truth  bool // true or false
	number bool // a whole number
	secret bool // shown redacted, also read from a file
}

// cell is the value of a column in one row. set takes "" for NULL; reveal, where there is one, gives what get redacts.
type cell struct {
	get    func() any
	set    func(string) error
	reveal func() any
}

// flag is the column's name in kebab case; references are called by what they refer to.
func (c *column[T]) flag() string {
	switch c.refer {
	case userReference:
		return "user"
	case tenantReference:
		return "tenant"
	}
	return strings.ReplaceAll(c.name, "_", "-")
}

func (c column[T]) onlyAtCreate() column[T] {
	c.fixed = true
	return c
}

func (c column[T]) shownOnly() column[T] {
	c.silent = true
	return c
}

// textColumn holds text; check, if there is one, may refuse or normalise it.
func textColumn[T any](name, usage string, at func(*T) **string, check func(string) (string, error)) column[T] {
	return column[T]{name: name, usage: usage, bind: func(row *T) cell {
		p := at(row)
		return cell{
			get: func() any { return orNull(*p) },
			set: func(s string) (err error) {
				if s == "" {
					*p = nil
					return nil
				}
				if check != nil {
					if s, err = check(s); err != nil {
						return err
					}
				}
				*p = &s
				return nil
			},
		}
	}}
}

func orNull[V any](p *V) any {
	if p == nil {
		return nil
	}
	return *p
}

func boolColumn[T any](name, usage string, at func(*T) **bool) column[T] {
	return column[T]{name: name, usage: usage, truth: true, bind: func(row *T) cell {
		p := at(row)
		return cell{
			get: func() any { return orNull(*p) },
			set: func(s string) error {
				switch s {
				case "":
					*p = nil
				case "true", "false":
					*p = new(s == "true")
				default:
					return errors.New("want true or false")
				}
				return nil
			},
		}
	}}
}

func intColumn[T any](name, usage string, at func(*T) **int64) column[T] {
	return column[T]{name: name, usage: usage, number: true, bind: func(row *T) cell {
		p := at(row)
		return cell{
			get: func() any { return orNull(*p) },
			set: func(s string) error {
				if s == "" {
					*p = nil
					return nil
				}
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					return errors.New("want a whole number")
				}
				*p = &n
				return nil
			},
		}
	}}
}

// idColumn holds an id that is never NULL.
func idColumn[T any, ID ~string](name, usage string, at func(*T) *ID) column[T] {
	return column[T]{name: name, usage: usage, bind: func(row *T) cell {
		p := at(row)
		return cell{
			get: func() any { return string(*p) },
			set: func(s string) error {
				*p = ID(s)
				return nil
			},
		}
	}}
}

func referenceColumn[T any, ID ~string](name, usage string, to reference, at func(*T) *ID) column[T] {
	c := idColumn(name, usage, at)
	c.refer = to
	return c
}

// uriColumn holds a database URI: redacted when shown, and in no error.
func uriColumn[T any](name, usage string, at func(*T) *catalog.DBURI) column[T] {
	return column[T]{name: name, usage: usage, secret: true, bind: func(row *T) cell {
		p := at(row)
		return cell{
			get: func() any {
				if p.IsZero() {
					return nil
				}
				return p.String()
			},
			set: func(s string) error {
				if err := checkURI(s); err != nil {
					return err
				}
				*p = catalog.NewDBURI(s)
				return nil
			},
			reveal: func() any {
				if p.IsZero() {
					return nil
				}
				return p.Reveal()
			},
		}
	}}
}

// checkURI refuses what the proxy could not put into a header, and what is no reference. Whether a sealed value opens is
// tenantVet's to say: it needs the tenant's id. Its errors do not repeat the text.
func checkURI(s string) error {
	switch sealing.FormOf(catalog.NewDBURI(s)) {
	case sealing.Absent, sealing.Sealed:
		return nil
	case sealing.Reference:
		return sealing.CheckReference(catalog.NewDBURI(s))
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || rest == "" || strings.ContainsFunc(scheme, notInScheme) {
		return errors.New("want a database URI such as postgresql://user:password@host:5432/name or sqlite:///PATH")
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return errors.New("a database URI has only printable ASCII and no space; percent-encode the rest")
		}
	}
	return nil
}

func notInScheme(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '+' || r == '-' || r == '.')
}

// timestamp takes any ISO 8601 text and gives the form that fh-saas compares.
func timestamp(s string) (string, error) {
	t, err := catalog.ParseTimestamp(s)
	if err != nil {
		return "", errors.New("want a time in ISO 8601, such as 2026-11-23T07:31:00")
	}
	return catalog.Timestamp(t), nil
}

func jsonText(s string) (string, error) {
	if !json.Valid([]byte(s)) {
		return "", errors.New("want JSON")
	}
	return s, nil
}

func jsonStrings(s string) (string, error) {
	var list []string
	if err := json.Unmarshal([]byte(s), &list); err != nil || list == nil {
		return "", errors.New(`want a JSON array of strings, such as ["reports","sso"]`)
	}
	return s, nil
}

// value is a flag's text; unlike pflag's own, it knows whether it was given and never repeats a secret in an error.
type value struct {
	text  string
	given bool
	kind  string
}

// String, Set and Type implement pflag.Value.
func (v *value) String() string { return "" }

func (v *value) Set(s string) error {
	v.text, v.given = s, true
	return nil
}

func (v *value) Type() string { return v.kind }

// values are the columns that a command line gives, by column name.
type values map[string]string

// columnFlags adds a flag for every column that can be given, and returns what reads them.
func columnFlags[T any](cmd *cobra.Command, columns []column[T], creating bool, skip func(*column[T]) bool) func(in io.Reader) (values, error) {
	given := make(map[string]*value)
	files := make(map[string]*value)
	for i := range columns {
		c := &columns[i]
		if c.silent || c.fixed && !creating || skip != nil && skip(c) {
			continue
		}
		given[c.name] = &value{kind: kindOf(c)}
		f := cmd.Flags().VarPF(given[c.name], c.flag(), "", c.usage)
		if c.truth {
			f.NoOptDefVal = "true"
		}
		if c.secret {
			files[c.name] = &value{kind: "FILE"}
			cmd.Flags().Var(files[c.name], c.flag()+"-file", "file that holds the value of --"+c.flag()+"; - is standard input")
		}
	}
	return func(in io.Reader) (values, error) {
		out := make(values)
		for i := range columns {
			c := &columns[i]
			v, ok := given[c.name]
			if !ok {
				continue
			}
			text, present := v.text, v.given
			if f := files[c.name]; f != nil && f.given {
				if present {
					return nil, usagef("--%s and --%s-file are both given: give one", c.flag(), c.flag())
				}
				var err error
				if text, err = secretFile(in, f.text); err != nil {
					return nil, fmt.Errorf("--%s-file: %w", c.flag(), err)
				}
				if text == "" && !creating { // what a broken pipe leaves is no wish to clear the column
					return nil, fmt.Errorf("--%s-file: holds nothing; to clear the column give --%s ''", c.flag(), c.flag())
				}
				present = true
			}
			if !present {
				continue
			}
			if err := c.bind(new(T)).set(text); err != nil {
				return nil, usagef("--%s: %w", c.flag(), err)
			}
			out[c.name] = text
		}
		return out, nil
	}
}

func kindOf[T any](c *column[T]) string {
	switch {
	case c.refer == userReference:
		return "ID|EMAIL"
	case c.refer == tenantReference:
		return "ID|SLUG"
	case c.truth:
		return "true|false"
	}
	return "text"
}

// maxSecretFile bounds what is read of a secret's file.
const maxSecretFile = 64 << 10

// secretFile reads a secret from a file, or from standard input for "-". One trailing newline is not part of it.
func secretFile(in io.Reader, path string) (string, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxSecretFile {
		return "", fmt.Errorf("more than %d bytes are no secret", maxSecretFile)
	}
	s := strings.TrimSuffix(string(text), "\n")
	return strings.TrimSuffix(s, "\r"), nil
}
