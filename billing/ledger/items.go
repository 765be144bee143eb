package ledger

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
)

// Item is what a subscription is to: so many of a price.
type Item struct {
	PriceID     StripeID
	ProductID   StripeID
	ProductName string // nickname of the price, or the expanded product's name; "" where Stripe does not say
	Quantity    int64
	AmountCents *int64 // unit amount × quantity in minor units; nil: not known, tiered, or beyond 32 bits
	Currency    string // ISO 4217, lower case; "" where the price does not say
}

// SetItems says what the subscription is to, in whatever order Stripe lists it.
func (s *Subscription) SetItems(items []Item) {
	if len(items) == 0 {
		return
	}
	items = slices.Clone(items)
	slices.SortFunc(items, compareItems)
	main := &items[0]
	for i := range items {
		if amount(&items[i]) > amount(main) {
			main = &items[i]
		}
	}
	s.PriceID, s.ProductID, s.ProductName = main.PriceID, main.ProductID, main.ProductName
	s.Quantity, s.AmountCents, s.Items = main.Quantity, main.AmountCents, nil
	if main.Currency != "" {
		s.Currency = main.Currency
	}
	if len(items) > 1 {
		s.Items = items
	}
}

// compareItems orders items by what they say, so that the same ones are always in the same order.
func compareItems(a, b Item) int {
	return cmp.Or(
		cmp.Compare(a.PriceID, b.PriceID), cmp.Compare(a.Quantity, b.Quantity), cmp.Compare(amount(&a), amount(&b)),
		cmp.Compare(a.ProductID, b.ProductID), cmp.Compare(a.ProductName, b.ProductName), cmp.Compare(a.Currency, b.Currency),
	)
}

// amount is an item's amount for comparing: one that is not known is less than any.
func amount(i *Item) int64 {
	if i.AmountCents == nil {
		return -1
	}
	return *i.AmountCents
}

// items are all items of a subscription.
func (s *Subscription) items() []Item {
	if len(s.Items) > 0 {
		return s.Items
	}
	if s.PriceID == "" && s.Quantity == 0 {
		return nil
	}
	return []Item{{
		PriceID: s.PriceID, ProductID: s.ProductID, ProductName: s.ProductName, Quantity: s.Quantity, AmountCents: s.AmountCents, Currency: s.Currency,
	}}
}

// AttributesOf are AttributePrice and AttributeQuantity of a subscription to these items, in whatever order they are.
func AttributesOf(items []Item) (prices, quantities string) {
	items = slices.Clone(items)
	slices.SortFunc(items, compareItems)
	var p, q []string
	for i := range items {
		p, q = append(p, string(items[i].PriceID)), append(q, strconv.FormatInt(items[i].Quantity, 10))
	}
	return strings.Join(p, " "), strings.Join(q, " ")
}

// sold is the item that gives the subscription its plan: of those whose price a plan sells the one of the highest tier_level
// (NULL is 1), then of the smallest plan id. nil: no plan sells any of them.
func (s *Subscription) sold(plans []catalog.PricingPlan) (plan catalog.PlanID, item *Item) {
	items, best := s.items(), (*catalog.PricingPlan)(nil)
	for i := range items {
		p := seller(plans, items[i].PriceID)
		if p == nil {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(level(best), level(p)), cmp.Compare(p.ID, best.ID)) < 0 {
			best, item = p, &items[i]
		}
	}
	if best == nil {
		return "", nil
	}
	return best.ID, item
}

// seller is the plan that sells a price: an active one before a retired one, then the smallest id; nil for none.
func seller(plans []catalog.PricingPlan, price StripeID) *catalog.PricingPlan {
	var best *catalog.PricingPlan
	for i := range plans {
		p := &plans[i]
		if price == "" || text(p.StripePriceMonthly) != string(price) && text(p.StripePriceYearly) != string(price) {
			continue
		}
		if best == nil || cmp.Or(truth(active(best))-truth(active(p)), cmp.Compare(p.ID, best.ID)) < 0 {
			best = p
		}
	}
	return best
}

func active(p *catalog.PricingPlan) bool { return p.IsActive != nil && *p.IsActive }

// level is a plan's tier_level as decisions read it.
func level(p *catalog.PricingPlan) int64 {
	if p.TierLevel == nil {
		return 1
	}
	return *p.TierLevel
}
