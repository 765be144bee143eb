package catalog

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Page selects a part of a list: in the order of ids, or of records of what happened (AuditLogs, Jobs) the newest first.
type Page struct {
	// After is the `next` of the page before; "" begins.
	After string
	// Limit is between 1 and 1000; 0 is 100, more is 1000.
	Limit int
	// Filter holds columns and the text they must equal ("true" and "false" for booleans). An unknown column is an error.
	Filter map[string]string
	// Since and Until, where not "", bound created_at (text, see Timestamp) of lists with the newest first: at or after
	// Since, before Until.
	Since, Until string
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func (p *Page) limit() int {
	if p.Limit <= 0 {
		return defaultPage
	}
	return min(p.Limit, maxPage)
}

// createdKey orders by age, rows without created_at last. Indexes spell it the same.
const createdKey = `coalesce(created_at, '') COLLATE "C"`

// place is where a page with the newest first ended: a row's created_at and its key, so that the next one begins there
// also when that row is gone.
func place(created, key string) string {
	text, _ := json.Marshal([2]string{created, key}) // two strings are always JSON
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePlace(s string) (created, key string, err error) {
	var at [2]string
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if err != nil {
		return "", "", errors.New("that is not the `next` of a page of this list")
	}
	return clean(at[0]), clean(at[1]), nil
}

// List returns a page of rows, and what to put into Page.After for the next one, "" at the end. In a list by ids, rows
// without an id, which other programs may have left, come with the first page, at most 1000 of them, in addition to its
// limit if need be: nothing can name them.
func (t *Table[ID, T]) List(ctx context.Context, p Page) (page []T, next string, err error) {
	c, err := t.filtered(p)
	if err != nil {
		return nil, "", err
	}
	if t.newest {
		return t.listNewest(ctx, p, c)
	}
	if p.Since != "" || p.Until != "" {
		return nil, "", fmt.Errorf("list %s: it is in the order of ids: since and until do not bound it", t.noun)
	}
	limit := p.limit()
	if p.After != "" {
		c.ask(t.key()+" > ?", storable(p.After))
	}
	if page, err = t.page(ctx, c, t.key(), limit+1); err != nil {
		return nil, "", err
	}
	var nameless []T
	if len(page) > limit && t.id(&page[limit-1]) == "" { // no page could begin behind such a row
		if nameless, err = t.page(ctx, c.and("coalesce("+t.key()+", '') = ''"), t.key(), maxPage); err != nil {
			return nil, "", err
		}
		if page, err = t.page(ctx, c.and(t.key()+" > ''"), t.key(), limit+1); err != nil {
			return nil, "", err
		}
	}
	if len(page) > limit {
		page = page[:limit]
		next = t.id(&page[limit-1])
	}
	return append(nameless, page...), next, nil
}

// listNewest is List with the newest first.
func (t *Table[ID, T]) listNewest(ctx context.Context, p Page, c conditions) (page []T, next string, err error) {
	order, err := t.newestFirst(p, &c)
	if err != nil {
		return nil, "", err
	}
	if page, err = t.page(ctx, c, order, p.limit()+1); err != nil {
		return nil, "", err
	}
	if len(page) > p.limit() {
		page = page[:p.limit()]
		last := &page[len(page)-1]
		next = place(t.created(last), t.id(last))
	}
	return page, next, nil
}

// conditions are what rows of a list satisfy, all of them.
type conditions struct {
	where []string
	args  []any
}

// ask adds a condition, with a ? for each value.
func (c *conditions) ask(condition string, values ...any) {
	for _, v := range values {
		c.args = append(c.args, v)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(c.args)), 1)
	}
	c.where = append(c.where, condition)
}

// and is c with one condition more.
func (c conditions) and(condition string) conditions {
	return conditions{append(slices.Clone(c.where), condition), c.args}
}

func (t *Table[ID, T]) filtered(p Page) (c conditions, err error) {
	for _, column := range slices.Sorted(maps.Keys(p.Filter)) {
		v, err := t.filterValue(column, p.Filter[column])
		if err != nil {
			return c, err
		}
		c.ask(column+" = ?", v)
	}
	return c, nil
}

// listing is the statement of a list.
func (t *Table[ID, T]) listing(c conditions, order string, limit int) string {
	text := t.selects
	if len(c.where) > 0 {
		text += " WHERE " + strings.Join(c.where, " AND ")
	}
	return t.dialect(text + " ORDER BY " + order + " LIMIT " + strconv.Itoa(limit))
}

// page reads at most limit of the rows that satisfy c.
func (t *Table[ID, T]) page(ctx context.Context, c conditions, order string, limit int) ([]T, error) {
	return t.find(ctx, t.at, "list "+t.noun, t.listing(c, order, limit), c.args)
}

func (t *Table[ID, T]) newestFirst(p Page, c *conditions) (order string, err error) {
	key := "coalesce(" + t.key() + `, '') COLLATE "C"`
	if p.Since != "" {
		c.ask(createdKey+" >= ?", storable(p.Since))
	}
	if p.Until != "" {
		c.ask(createdKey+" < ?", storable(p.Until))
	}
	if p.After != "" {
		created, id, err := parsePlace(p.After)
		if err != nil {
			return "", fmt.Errorf("list %s: %w", t.noun, err)
		}
		c.ask("("+createdKey+", "+key+") < (?, ?)", created, id)
	}
	return createdKey + " DESC, " + key + " DESC", nil
}

func (t *Table[ID, T]) created(row *T) string {
	i := slices.Index(t.columns, "created_at")
	s, _ := value(t.fields(row)[i]).(string)
	return s
}

func (t *Table[ID, T]) filterValue(column, want string) (any, error) {
	i := slices.Index(t.columns, column)
	if i < 0 || slices.Contains(t.hidden, column) {
		return nil, fmt.Errorf("list %s: no such column to filter by: choose one of %s", t.noun, strings.Join(t.columns, ", "))
	}
	switch t.fields(new(T))[i].(type) {
	case **bool, *bool:
		b, err := strconv.ParseBool(want)
		if err != nil {
			return nil, fmt.Errorf("list %s: filter by %s: write true or false", t.noun, column)
		}
		return b, nil
	case **int64:
		n, err := strconv.ParseInt(want, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("list %s: filter by %s: write a number", t.noun, column)
		}
		return n, nil
	}
	return storable(want), nil
}
