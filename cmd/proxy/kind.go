package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

// kind is a model that the command line administers: one description, from which list, show, create, update and delete
// are made.
type kind[ID ~string, T any] struct {
	name    string // tenant
	plural  string // tenants
	about   string // what a row means
	naming  string // what an argument that names a row may be: ID, ID|SLUG …
	columns []column[T]
	// importOnly are columns that imports give and nothing shows.
	importOnly []column[T]
	table      func(*catalog.Tables) *catalog.Table[ID, T]
	id         func(*T) *ID
	// find turns the name of a row into its id; nil: a name is an id.
	find func(context.Context, *catalog.Tables, string) (ID, error)
	// findPair: a row is also named by --user and --tenant.
	findPair func(ctx context.Context, t *catalog.Tables, user, tenant string) (ID, error)
	// argument takes what create has as its argument; nil: create has none.
	argument func(*T, string) error
	// more gives fields that our own tables add to rows, under moreNames; nil: none.
	more      func(context.Context, *catalog.Tables, []T) ([]record, error)
	moreNames []string
	// vet refuses the value of a column in a row that is to be written, whose name it returns; nil: nothing is.
	vet func(context.Context, *T) (column string, err error)
	// unlock replaces in rows what lies sealed by what it stands for, before it is revealed; nil: nothing does. What does
	// not open stays as it is stored and is an error.
	unlock func(context.Context, []T) error
	// wrote hears, in the transaction, of a row that create or update has written and of the columns that were given; nil:
	// nobody does.
	wrote func(ctx context.Context, tx *catalog.Tx, row *T, given values) error
	// remark is what standard error says of a row that was updated or is deleted, "" for nothing; nil: never anything.
	remark   func(context.Context, *catalog.Tx, *T) (string, error)
	required []string // flags that create needs
	newest   bool     // list begins with the newest
	filters  []string // columns by which list filters, by flags of their names
	// words are what a column's rows say, as far as we know: a filter by another one that finds nothing is refused.
	words map[string][]string
	// examples of each verb's arguments.
	examples map[string]string
}

// selector says which row a command line means.
type selector struct{ id, user, tenant string }

func (k *kind[ID, T]) command(p *program, extra ...*cobra.Command) *cobra.Command {
	cmd := group(k.name, "Administer "+k.plural+": "+k.about, "tenantgate "+k.name+" list --limit 20")
	cmd.AddCommand(k.list(p), k.show(p), k.create(p), k.update(p))
	if !slices.ContainsFunc(extra, func(c *cobra.Command) bool { return c.Name() == "delete" }) {
		cmd.AddCommand(k.remove(p))
	}
	cmd.AddCommand(extra...)
	cmd.AddCommand(k.imports(p))
	return cmd
}

func (k *kind[ID, T]) example(verb string) string {
	return strings.TrimRight("tenantgate "+k.name+" "+verb+" "+k.examples[verb], " ")
}

func (k *kind[ID, T]) list(p *program) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List " + k.plural, Example: k.example("list"), Args: noArgs}
	output := outputFlag(cmd)
	page := pageFlags(cmd)
	if k.newest {
		cmd.Short += ", newest first"
		moments(cmd, page)
	}
	filter := k.filterFlags(cmd)
	reveal := k.revealFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := page.check(); err != nil {
			return err
		}
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			var rows []T
			var next string
			read := func(t *catalog.Tables) (err error) {
				page.Filter, err = filter(ctx, t)
				if err != nil {
					return err
				}
				if rows, next, err = k.table(t).List(ctx, page.Page); err != nil || len(rows) > 0 {
					return err
				}
				return k.meant(ctx, t, page.Filter)
			}
			if err := k.read(ctx, host, *reveal, read, func() []T { return rows }); err != nil {
				return fmt.Errorf("list %s: %w", k.plural, err)
			}
			locked := k.unlocked(ctx, *reveal, rows)
			records, err := k.records(ctx, &host.Tables, rows, *reveal)
			if err != nil {
				return err
			}
			return errors.Join(writeList(p.out, *output, append(k.names(), k.moreNames...), records, next), locked)
		})
	}
	return cmd
}

func (k *kind[ID, T]) show(p *program) *cobra.Command {
	cmd := &cobra.Command{Use: k.use("show"), Short: "Show one " + k.name, Example: k.example("show")}
	output := outputFlag(cmd)
	reveal := k.revealFlag(cmd)
	which := k.selecting(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sel, err := which(args)
		if err != nil {
			return err
		}
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			var row *T
			read := func(t *catalog.Tables) (err error) {
				row, err = k.get(ctx, t, sel)
				return err
			}
			if err := k.read(ctx, host, *reveal, read, func() []T { return []T{*row} }); err != nil {
				return err
			}
			rows := []T{*row}
			locked := k.unlocked(ctx, *reveal, rows)
			done, err := k.one(ctx, &host.Tables, &rows[0], *reveal)
			if err != nil {
				return err
			}
			return errors.Join(writeOne(p.out, *output, done), locked)
		})
	}
	return cmd
}

// unlocked opens what lies sealed in rows that are to be revealed.
func (k *kind[ID, T]) unlocked(ctx context.Context, reveal bool, rows []T) error {
	if !reveal || k.unlock == nil {
		return nil
	}
	return k.unlock(ctx, rows)
}

// read runs a query. Where secrets are to be shown, the audit says so before anything is printed, or nothing is.
func (k *kind[ID, T]) read(ctx context.Context, host *catalog.HostDatabase, reveal bool, query func(*catalog.Tables) error, rows func() []T) error {
	if !reveal {
		return query(&host.Tables)
	}
	return host.InTx(ctx, func(tx *catalog.Tx) error {
		if err := query(&tx.Tables); err != nil {
			return err
		}
		for _, row := range rows() {
			if err := tx.Audit(ctx, k.name+".revealed", string(*k.id(&row)), map[string]any{"columns": k.secrets()}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (k *kind[ID, T]) create(p *program) *cobra.Command {
	cmd := &cobra.Command{Use: "create", Short: "Create a " + k.name, Example: k.example("create"), Args: noArgs}
	if k.argument != nil {
		cmd.Use, cmd.Args = "create "+k.naming, oneArg(k.naming)
	}
	output := outputFlag(cmd)
	flags := columnFlags(cmd, k.columns, true, nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given, err := flags(p.in)
		if err != nil {
			return err
		}
		var row T
		if k.argument != nil {
			if err := k.argument(&row, args[0]); err != nil {
				return usagef("%s: %w", cmd.CommandPath(), err)
			}
		}
		for _, name := range k.required {
			if given[name] == "" {
				return usagef("%s needs --%s", cmd.CommandPath(), k.column(name).flag())
			}
		}
		return p.change(cmd.Context(), *output, func(ctx context.Context, tx *catalog.Tx) (record, error) {
			if err := k.assign(ctx, &tx.Tables, &row, given); err != nil {
				return nil, err
			}
			if err := k.table(&tx.Tables).Insert(ctx, &row); err != nil {
				return nil, fmt.Errorf("create %s: %w", k.name, err)
			}
			if err := k.written(ctx, tx, &row, given); err != nil {
				return nil, err
			}
			return k.one(ctx, &tx.Tables, &row, false)
		})
	}
	return cmd
}

func (k *kind[ID, T]) update(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: k.use("update"), Short: "Change columns of a " + k.name, Example: k.example("update"),
		Long: "Changes the columns whose flags are given and leaves the others. An empty value is NULL.",
	}
	output := outputFlag(cmd)
	which := k.selecting(cmd)
	flags := columnFlags(cmd, k.columns, false, func(c *column[T]) bool { return k.findPair != nil && c.refer != noReference })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sel, err := which(args)
		if err != nil {
			return err
		}
		given, err := flags(p.in)
		if err != nil {
			return err
		}
		if len(given) == 0 {
			return usagef("%s: no column is given; --help lists them", cmd.CommandPath())
		}
		return p.changeRemarked(cmd.Context(), *output, func(ctx context.Context, tx *catalog.Tx) (record, string, error) {
			row, err := k.modify(ctx, tx, sel, func(row *T) error { return k.assign(ctx, &tx.Tables, row, given) })
			if err == nil {
				err = k.written(ctx, tx, row, given)
			}
			if err != nil {
				return nil, "", err
			}
			return k.remarked(ctx, tx, row)
		})
	}
	return cmd
}

func (k *kind[ID, T]) written(ctx context.Context, tx *catalog.Tx, row *T, given values) error {
	if k.wrote == nil {
		return nil
	}
	return k.wrote(ctx, tx, row, given)
}

// remarked is a row that was changed, and what there is to say of it.
func (k *kind[ID, T]) remarked(ctx context.Context, tx *catalog.Tx, row *T) (done record, remark string, err error) {
	if k.remark != nil {
		if remark, err = k.remark(ctx, tx, row); err != nil {
			return nil, "", err
		}
	}
	done, err = k.one(ctx, &tx.Tables, row, false)
	return done, remark, err
}

// modify changes one row in tx and returns it as it then stands. change gets the row locked, so that what another
// program changes of it at the same time stays.
func (k *kind[ID, T]) modify(ctx context.Context, tx *catalog.Tx, sel selector, change func(*T) error) (*T, error) {
	named, err := k.get(ctx, &tx.Tables, sel)
	if err != nil {
		return nil, err
	}
	id := *k.id(named)
	var refused error
	row, err := k.table(&tx.Tables).Change(ctx, id, func(row *T) error {
		refused = change(row)
		return refused
	})
	if err != nil && refused == nil {
		return nil, fmt.Errorf("update %s %s: %w", k.name, id, err)
	}
	return row, err
}

func (k *kind[ID, T]) remove(p *program) *cobra.Command {
	cmd := &cobra.Command{Use: k.use("delete"), Short: "Delete a " + k.name, Example: k.example("delete")}
	output := outputFlag(cmd)
	which := k.selecting(cmd)
	cmd.Flags().Bool("yes", false, "accepted; nothing is asked")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sel, err := which(args)
		if err != nil {
			return err
		}
		return p.changeRemarked(cmd.Context(), *output, func(ctx context.Context, tx *catalog.Tx) (record, string, error) {
			row, err := k.get(ctx, &tx.Tables, sel)
			if err != nil {
				return nil, "", err
			}
			if err := k.table(&tx.Tables).Delete(ctx, *k.id(row)); err != nil {
				return nil, "", fmt.Errorf("delete %s %s: %w", k.name, *k.id(row), err)
			}
			return k.remarked(ctx, tx, row)
		})
	}
	return cmd
}

// use is a verb's usage line.
func (k *kind[ID, T]) use(verb string) string {
	if k.findPair != nil {
		return verb + " [ID | --user ID|EMAIL --tenant ID|SLUG]"
	}
	return verb + " " + k.naming
}

// selecting adds what names a row to a command, and returns what reads it.
func (k *kind[ID, T]) selecting(cmd *cobra.Command) func(args []string) (selector, error) {
	if k.findPair == nil {
		cmd.Args = oneArg(k.naming)
		return func(args []string) (selector, error) { return selector{id: args[0]}, nil }
	}
	cmd.Args = atMostOneArg
	var sel selector
	cmd.Flags().StringVar(&sel.user, "user", "", "with --tenant, names the row: the user's id or e-mail address")
	cmd.Flags().StringVar(&sel.tenant, "tenant", "", "with --user, names the row: the tenant's id or slug")
	return func(args []string) (selector, error) {
		pair := sel.user != "" && sel.tenant != ""
		if len(args) == 1 && sel.user == "" && sel.tenant == "" {
			return selector{id: args[0]}, nil
		}
		if len(args) == 0 && pair {
			return sel, nil
		}
		return selector{}, usagef("%s: name the row by its id, or by --user and --tenant", cmd.CommandPath())
	}
}

// get reads the row that sel names.
func (k *kind[ID, T]) get(ctx context.Context, t *catalog.Tables, sel selector) (*T, error) {
	id, err := ID(sel.id), error(nil)
	switch {
	case sel.id == "":
		id, err = k.findPair(ctx, t, sel.user, sel.tenant)
	case k.find != nil:
		id, err = k.find(ctx, t, sel.id)
	}
	if err != nil {
		return nil, err
	}
	row, err := k.table(t).Get(ctx, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, fmt.Errorf("%s %s: %w; `tenantgate %s list` shows all", k.name, id, catalog.ErrNotFound, k.name)
	}
	return row, err
}

// assign writes the given columns into row, names of users and tenants resolved.
func (k *kind[ID, T]) assign(ctx context.Context, t *catalog.Tables, row *T, given values) error {
	for i := range k.columns {
		c := &k.columns[i]
		text, ok := given[c.name]
		if !ok {
			continue
		}
		text, err := refer(ctx, t, c.refer, text)
		if err != nil {
			return err
		}
		if err := c.bind(row).set(text); err != nil {
			return usagef("--%s: %w", c.flag(), err)
		}
	}
	if k.vet == nil {
		return nil
	}
	name, err := k.vet(ctx, row)
	if _, changes := given[name]; err == nil || !changes {
		return nil
	}
	return usagef("--%s: %w", k.column(name).flag(), err)
}

func (k *kind[ID, T]) record(row *T, reveal bool) record {
	out := make(record, len(k.columns))
	for i := range k.columns {
		c := k.columns[i].bind(row)
		out[i] = field{k.columns[i].name, c.get()}
		if reveal && c.reveal != nil {
			out[i].value = c.reveal()
		}
	}
	return out
}

// records are rows as they are shown, with what our own tables add.
func (k *kind[ID, T]) records(ctx context.Context, t *catalog.Tables, rows []T, reveal bool) ([]record, error) {
	out := make([]record, len(rows))
	for i := range rows {
		out[i] = k.record(&rows[i], reveal)
	}
	if k.more == nil || len(rows) == 0 {
		return out, nil
	}
	more, err := k.more(ctx, t, rows)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i] = append(out[i], more[i]...)
	}
	return out, nil
}

func (k *kind[ID, T]) one(ctx context.Context, t *catalog.Tables, row *T, reveal bool) (record, error) {
	all, err := k.records(ctx, t, []T{*row}, reveal)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func (k *kind[ID, T]) names() []string {
	out := make([]string, len(k.columns))
	for i := range k.columns {
		out[i] = k.columns[i].name
	}
	return out
}

func (k *kind[ID, T]) secrets() []string {
	var out []string
	for i := range k.columns {
		if k.columns[i].secret {
			out = append(out, k.columns[i].name)
		}
	}
	return out
}

func (k *kind[ID, T]) column(name string) *column[T] {
	i := slices.IndexFunc(k.columns, func(c column[T]) bool { return c.name == name })
	return &k.columns[i]
}

func (k *kind[ID, T]) revealFlag(cmd *cobra.Command) *bool {
	reveal := new(bool)
	if len(k.secrets()) > 0 {
		cmd.Flags().BoolVar(reveal, "reveal", false, "show passwords; this is audited")
	}
	return reveal
}

// pageFlag is what --limit and --after say.
type pageFlag struct{ catalog.Page }

func pageFlags(cmd *cobra.Command) *pageFlag {
	page := &pageFlag{}
	cmd.Flags().IntVar(&page.Limit, "limit", 100, "rows at most, 1 to 1000")
	cmd.Flags().StringVar(&page.After, "after", "", "go on behind the `next` of the page before")
	return page
}

func (p *pageFlag) check() error {
	if p.Limit < 1 || p.Limit > 1000 {
		return usagef("--limit: want 1 to 1000")
	}
	return nil
}

// meant refuses to find nothing by a word that is none of a column's and stands in no row: a slip of the pen, not an answer.
func (k *kind[ID, T]) meant(ctx context.Context, t *catalog.Tables, filter map[string]string) error {
	for name, words := range k.words {
		text, given := filter[name]
		if !given || slices.Contains(words, text) {
			continue
		}
		rows, _, err := k.table(t).List(ctx, catalog.Page{Limit: 1, Filter: map[string]string{name: text}})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return usagef("--%s: %q is in no row, and none of %s", k.column(name).flag(), text, strings.Join(words, ", "))
		}
	}
	return nil
}

// filterFlags adds a flag for each column that list filters by, and returns what reads them.
func (k *kind[ID, T]) filterFlags(cmd *cobra.Command) func(context.Context, *catalog.Tables) (map[string]string, error) {
	given := make(map[string]*value)
	for _, name := range k.filters {
		c := k.column(name)
		given[name] = &value{kind: kindOf(c)}
		f := cmd.Flags().VarPF(given[name], c.flag(), "", "only rows with this "+name)
		if c.truth {
			f.NoOptDefVal = "true"
		}
	}
	return func(ctx context.Context, t *catalog.Tables) (map[string]string, error) {
		out := make(map[string]string)
		for name, v := range given {
			if !v.given {
				continue
			}
			text, err := refer(ctx, t, k.column(name).refer, v.text)
			if err != nil {
				return nil, err
			}
			out[name] = text
		}
		return out, nil
	}
}
