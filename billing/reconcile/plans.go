package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
)

// Keys of a product's metadata that plan sync reads.
const (
	metadataPlan     = "tenantgate_plan" // the plan key; without it plan
	metadataPlanToo  = "plan"
	metadataFeatures = "features" // feature keys, comma-separated
	metadataTier     = "tier_level"
	metadataTrial    = "trial_days"
	metadataOrder    = "sort_order"
)

const (
	// maxCatalogue bounds products and prices that are read, each.
	maxCatalogue = 10000
	maxPlans     = 1000
	maxTrialDays = 730 // Stripe's
	monthly      = "month"
	yearly       = "year"
)

// Catalogue is what plan sync asks of Stripe.
type Catalogue interface {
	Products(ctx context.Context) iter.Seq2[stripeapi.Listed[stripeapi.Product], error]
	Prices(ctx context.Context) iter.Seq2[stripeapi.Listed[stripeapi.Price], error]
}

// PlanChange is a column of core_pricing_plans that plan sync changed, or would change.
type PlanChange struct {
	Plan    catalog.PlanID
	Product ledger.StripeID
	New     bool // the row is inserted
	Column  string
	From    any // nil: NULL, or no row
	To      any
}

// PlanReport is what plan sync found.
type PlanReport struct {
	DryRun  bool
	Changes []PlanChange
	// Same counts plans that stand as Stripe has them, Foreign products that are no plan of ours.
	Same, Foreign int
	// Problems are products, prices and rows that nothing was done about, each said in one line.
	Problems []string
}

// SyncPlans brings products and prices into core_pricing_plans, all in one transaction with an audit row for each plan
// that changes. A dry run writes nothing. No row is ever deleted, and a row of which Stripe says nothing is left alone.
//
// Whose a product is: its metadata's tenantgate_plan, else plan, is the plan key; without either the one row that has one
// of its prices. Anything else is no plan of ours. docs/billing.md says which column comes from where.
func SyncPlans(ctx context.Context, host *catalog.HostDatabase, from Catalogue, dryRun bool) (*PlanReport, error) {
	goods, err := readGoods(ctx, from)
	if err != nil {
		return nil, err
	}
	report := &PlanReport{DryRun: dryRun, Problems: goods.problems}
	work := func(tables *catalog.Tables) error {
		rows, next, err := tables.PricingPlans.List(ctx, catalog.Page{Limit: maxPlans})
		if err != nil {
			return err
		}
		if next != "" {
			return fmt.Errorf("plan sync: more than %d plans", maxPlans)
		}
		sync := &planSync{goods: goods, rows: rows, report: report}
		return sync.run(ctx, tables)
	}
	if dryRun {
		return report, work(&host.Tables)
	}
	err = host.InTx(ctx, func(tx *catalog.Tx) error { return work(&tx.Tables) })
	return report, err
}

// goods is what Stripe sells.
type goods struct {
	products []stripeapi.Product // oldest first
	prices   map[ledger.StripeID][]stripeapi.Price
	byID     map[ledger.StripeID]stripeapi.Price
	problems []string
}

func readGoods(ctx context.Context, from Catalogue) (*goods, error) {
	g := &goods{prices: map[ledger.StripeID][]stripeapi.Price{}, byID: map[ledger.StripeID]stripeapi.Price{}}
	for one, err := range from.Products(ctx) {
		switch {
		case err != nil:
			return nil, fmt.Errorf("plan sync: %w", err)
		case one.Err != nil:
			g.problems = append(g.problems, fmt.Sprintf("product %s: %v", one.ID, one.Err))
		case len(g.products) == maxCatalogue:
			return nil, fmt.Errorf("plan sync: more than %d products", maxCatalogue)
		default:
			g.products = append(g.products, one.Value)
		}
	}
	for one, err := range from.Prices(ctx) {
		switch {
		case err != nil:
			return nil, fmt.Errorf("plan sync: %w", err)
		case one.Err != nil:
			g.problems = append(g.problems, fmt.Sprintf("price %s: %v", one.ID, one.Err))
		case len(g.byID) == maxCatalogue:
			return nil, fmt.Errorf("plan sync: more than %d prices", maxCatalogue)
		default:
			g.byID[one.ID] = one.Value
			g.prices[one.Value.Product] = append(g.prices[one.Value.Product], one.Value)
		}
	}
	slices.SortFunc(g.products, func(a, b stripeapi.Product) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return g, nil
}

// planSync compares goods with rows.
type planSync struct {
	goods  *goods
	rows   []catalog.PricingPlan
	report *PlanReport
}

func (s *planSync) problem(format string, args ...any) {
	s.report.Problems = append(s.report.Problems, fmt.Sprintf(format, args...))
}

func (s *planSync) run(ctx context.Context, tables *catalog.Tables) error {
	owners := s.owners()
	for _, key := range slices.Sorted(maps.Keys(owners)) {
		products := owners[key]
		if len(products) > 1 {
			s.problem("plan %s: products %s and %s both claim it: nothing is changed", key, products[0].ID, products[1].ID)
			continue
		}
		if err := s.one(ctx, tables, key, &products[0]); err != nil {
			return fmt.Errorf("plan %s: %w", key, err)
		}
	}
	for i := range s.rows {
		row := &s.rows[i]
		for _, id := range []*string{row.StripePriceMonthly, row.StripePriceYearly} {
			if id == nil || *id == "" {
				continue
			}
			if _, known := s.goods.byID[ledger.StripeID(*id)]; !known && owners[row.ID] == nil {
				s.problem("plan %s: Stripe has no price %s: nothing is changed", row.ID, *id)
			}
		}
	}
	return nil
}

// owners are the products of each plan key.
func (s *planSync) owners() map[catalog.PlanID][]stripeapi.Product {
	owners := map[catalog.PlanID][]stripeapi.Product{}
	for _, p := range s.goods.products {
		key, err := s.keyOf(&p)
		switch {
		case err != nil:
			s.problem("product %s: %v: nothing is changed", p.ID, err)
		case key == "":
			s.report.Foreign++
		default:
			owners[key] = append(owners[key], p)
		}
	}
	return owners
}

// keyOf is the plan key of a product, "" if it is no plan of ours.
func (s *planSync) keyOf(p *stripeapi.Product) (catalog.PlanID, error) {
	for _, name := range []string{metadataPlan, metadataPlanToo} {
		if key := p.Metadata[name]; key != "" {
			if !isKey(key) {
				return "", fmt.Errorf("its metadata %s is no plan key", name)
			}
			return catalog.PlanID(key), nil
		}
	}
	var found []catalog.PlanID
	for i := range s.rows {
		row := &s.rows[i]
		if slices.ContainsFunc(s.goods.prices[p.ID], func(q stripeapi.Price) bool { return names(row, q.ID) }) {
			found = append(found, row.ID)
		}
	}
	if len(found) > 1 {
		return "", fmt.Errorf("its prices stand in plans %s and %s", found[0], found[1])
	}
	if len(found) == 0 {
		return "", nil
	}
	return found[0], nil
}

func names(row *catalog.PricingPlan, price ledger.StripeID) bool {
	return deref(row.StripePriceMonthly) == string(price) || deref(row.StripePriceYearly) == string(price)
}

// isKey reports whether a text can be a plan key or a feature key: 1 to 100 printable ASCII bytes, no space, comma or
// quote.
func isKey(text string) bool {
	return text != "" && len(text) <= 100 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,"'\`, r) })
}

// one brings one plan to what its product says.
func (s *planSync) one(ctx context.Context, tables *catalog.Tables, key catalog.PlanID, p *stripeapi.Product) error {
	i := slices.IndexFunc(s.rows, func(r catalog.PricingPlan) bool { return r.ID == key })
	if i < 0 {
		row := catalog.PricingPlan{ID: key, TrialDays: new(int64(0)), TierLevel: new(int64(1)), SortOrder: new(int64(0))}
		if err := s.turn(&row, p); err != nil {
			s.problem("product %s: %v: nothing is changed", p.ID, err)
			return nil
		}
		s.note(p, true, &catalog.PricingPlan{ID: key}, &row)
		if s.report.DryRun {
			return nil
		}
		return tables.PricingPlans.Insert(ctx, &row)
	}
	row := s.rows[i]
	if err := s.turn(&row, p); err != nil {
		s.problem("product %s: %v: nothing is changed", p.ID, err)
		return nil
	}
	if reflect.DeepEqual(row, s.rows[i]) {
		s.report.Same++
		return nil
	}
	if s.report.DryRun {
		s.note(p, false, &s.rows[i], &row)
		return nil
	}
	var before catalog.PricingPlan
	after, err := tables.PricingPlans.Change(ctx, key, func(row *catalog.PricingPlan) error {
		before = *row
		return s.turn(row, p)
	})
	if err != nil {
		return err
	}
	s.note(p, false, &before, after)
	return nil
}

// turn makes the row what the product and its prices say. What they do not say stays.
func (s *planSync) turn(row *catalog.PricingPlan, p *stripeapi.Product) error {
	if p.Name != "" {
		row.Name = same(row.Name, p.Name)
	}
	if p.Description != "" {
		row.Description = same(row.Description, p.Description)
	}
	for _, n := range []struct {
		name  string
		most  int64
		field **int64
	}{{metadataTier, math.MaxInt32, &row.TierLevel}, {metadataTrial, maxTrialDays, &row.TrialDays}, {metadataOrder, math.MaxInt32, &row.SortOrder}} {
		if err := takeNumber(p, n.name, n.most, n.field); err != nil {
			return err
		}
	}
	if err := takeFeatures(row, p); err != nil {
		return err
	}
	s.takePrices(row, p)
	return nil
}

func takeNumber(p *stripeapi.Product, name string, most int64, field **int64) error {
	text, ok := p.Metadata[name]
	if !ok || text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > most {
		return fmt.Errorf("its metadata %s is no number from 0 to %d", name, most)
	}
	*field = same(*field, n)
	return nil
}

// takeFeatures sets the feature keys: those that metadata lists, else marketing features, if each of them is a key and
// not a sentence. all_features, which grants everything, comes from metadata alone.
func takeFeatures(row *catalog.PricingPlan, p *stripeapi.Product) error {
	var keys []string
	if text, ok := p.Metadata[metadataFeatures]; ok {
		for key := range strings.SplitSeq(text, ",") {
			if key = strings.TrimSpace(key); key != "" {
				keys = append(keys, key)
			}
		}
		if i := slices.IndexFunc(keys, func(k string) bool { return !isKey(k) }); i >= 0 {
			return errors.New("its metadata features holds what is no feature key")
		}
	} else {
		if len(p.Features) == 0 || slices.ContainsFunc(p.Features, func(k string) bool { return !isKey(k) || k == "all_features" }) {
			return nil
		}
		keys = p.Features
	}
	text, err := json.Marshal(append([]string{}, keys...))
	if err != nil {
		return err
	}
	var now []string
	if row.Features != nil && json.Unmarshal([]byte(*row.Features), &now) == nil && slices.Equal(now, keys) && now != nil {
		return nil // written in another way
	}
	row.Features = same(row.Features, string(text))
	return nil
}

// takePrices sets prices, amounts, currency and is_active. A plan that is not on offer keeps the prices that it had, so
// that who subscribed to them keeps the plan.
func (s *planSync) takePrices(row *catalog.PricingPlan, p *stripeapi.Product) {
	currency := s.currency(row, p)
	month, year := s.choose(row.StripePriceMonthly, p, monthly, currency), s.choose(row.StripePriceYearly, p, yearly, currency)
	offered := p.Active && (month != nil || year != nil)
	if row.IsActive == nil || *row.IsActive != offered {
		row.IsActive = new(offered)
	}
	if month == nil && year == nil {
		return
	}
	row.Currency = same(row.Currency, currency)
	row.StripePriceMonthly, row.AmountMonthly = priced(row.StripePriceMonthly, row.AmountMonthly, month)
	row.StripePriceYearly, row.AmountYearly = priced(row.StripePriceYearly, row.AmountYearly, year)
}

func priced(id *string, amount *int64, p *stripeapi.Price) (*string, *int64) {
	if p == nil {
		return nil, nil
	}
	return same(id, string(p.ID)), same(amount, *p.Cents)
}

// currency is that of the default price, else the row's if there is a price in it, else that of the oldest price.
func (s *planSync) currency(row *catalog.PricingPlan, p *stripeapi.Product) string {
	var first string
	own := false
	for _, q := range slices.Backward(s.goods.prices[p.ID]) {
		if interval(&q) == "" || !q.Active {
			continue
		}
		if q.ID == p.Default {
			return q.Currency
		}
		first = cmp.Or(first, q.Currency)
		own = own || q.Currency == deref(row.Currency)
	}
	if own {
		return *row.Currency
	}
	return first
}

// choose is the price of an interval: the product's default price, else the one that the row has, else the newest.
func (s *planSync) choose(now *string, p *stripeapi.Product, every, currency string) *stripeapi.Price {
	var best *stripeapi.Price
	rank := func(q *stripeapi.Price) int {
		switch {
		case q.ID == p.Default:
			return 2
		case string(q.ID) == deref(now):
			return 1
		}
		return 0
	}
	for _, q := range s.goods.prices[p.ID] {
		if !q.Active || q.Currency != currency || interval(&q) != every {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(rank(&q), rank(best)), q.Created.Compare(best.Created), cmp.Compare(q.ID, best.ID)) > 0 {
			best = &q
		}
	}
	return best
}

// interval is month or year for a price of a fixed amount that can be subscribed to, else "".
func interval(q *stripeapi.Price) string {
	switch {
	case q.Cents == nil || q.Metered:
		return ""
	case q.Interval == monthly && q.Count == 1, q.Interval == yearly && q.Count == 1:
		return q.Interval
	case q.Interval == monthly && q.Count == 12:
		return yearly
	}
	return ""
}

// same is a pointer to v, the old one if it says v already.
func same[T comparable](old *T, v T) *T {
	if old != nil && *old == v {
		return old
	}
	return &v
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// note records what differs, column by column.
func (s *planSync) note(p *stripeapi.Product, inserted bool, old, row *catalog.PricingPlan) {
	was, is := reflect.ValueOf(*old), reflect.ValueOf(*row)
	for i := range was.NumField() {
		column := was.Type().Field(i).Tag.Get("json")
		if column == "id" || column == "created_at" {
			continue
		}
		from, to := plain(was.Field(i)), plain(is.Field(i))
		if from != to {
			s.report.Changes = append(s.report.Changes, PlanChange{Plan: row.ID, Product: p.ID, New: inserted, Column: column, From: from, To: to})
		}
	}
}

// plain is a column's value; NULL is nil.
func plain(v reflect.Value) any {
	if v.Kind() != reflect.Pointer {
		return v.Interface()
	}
	if v.IsNil() {
		return nil
	}
	return v.Elem().Interface()
}
