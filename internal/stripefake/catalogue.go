package stripefake

import (
	"slices"
	"strconv"
	"strings"
)

// Card is how a customer pays.
type Card int

// What a customer's card does. Without one there is nothing to charge.
const (
	CardNone Card = iota
	CardPays
	CardDeclines
)

// Customer, Product and Price are what an account is filled with by AddCustomer, AddProduct and AddPrice. An empty ID is
// made up.
type (
	Customer struct {
		ID, Email, Name string
		Metadata        map[string]string
		Card            Card
		Live            bool
	}
	Product struct {
		ID, Name, Description string
		Metadata              map[string]string
		Features              []string // marketing features
		Archived              bool
		Live                  bool
	}
	Price struct {
		ID, Product, LookupKey string
		Currency               string // "": usd
		Cents                  int64
		Interval               string // month (also ""), year, week, day; once: a one-time price
		Count                  int64  // intervals in a period; 0: 1
		TrialDays              int64
		Metadata               map[string]string
		Archived               bool
	}
)

func textMap(m map[string]string) object {
	o := object{}
	for k, v := range m {
		o[k] = v
	}
	return o
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// AddCustomer stores a customer and returns its id.
func (s *Server) AddCustomer(c Customer) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := customer(c.Email, c.Name, textMap(c.Metadata))
	if c.ID != "" {
		o["id"] = c.ID
	}
	s.newCustomer(c.Live, o, c.Card, nil)
	return o.text("id")
}

func customer(email, name string, metadata object) object {
	return object{
		"email": orNull(email), "name": orNull(name), "metadata": metadata, "description": nil, "balance": int64(0), "currency": nil,
		"delinquent": false, "default_source": nil, "phone": nil, "tax_exempt": "none", "test_clock": nil,
		"invoice_settings": object{"default_payment_method": nil},
	}
}

func (s *Server) newCustomer(live bool, o object, card Card, c *call) {
	s.add("customer", live, o)
	s.cards[o.text("id")] = card
	s.emit(c, "customer.created", o, nil)
}

// SetCard changes what the customer's card does from now on.
func (s *Server) SetCard(customer string, card Card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cards[customer] = card
}

// AddProduct stores a product and returns its id.
func (s *Server) AddProduct(p Product) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := product(p.Name, p.Description, textMap(p.Metadata), p.Features, !p.Archived)
	if p.ID != "" {
		o["id"] = p.ID
	}
	s.add("product", p.Live, o)
	o["updated"] = o["created"]
	s.emit(nil, "product.created", o, nil)
	return o.text("id")
}

func product(name, description string, metadata object, features []string, active bool) object {
	list := []any{}
	for _, f := range features {
		list = append(list, object{"name": f})
	}
	return object{
		"name": name, "description": orNull(description), "metadata": metadata, "marketing_features": list, "active": active,
		"default_price": nil, "images": []any{}, "type": "service", "url": nil, "unit_label": nil, "statement_descriptor": nil,
		"tax_code": nil, "package_dimensions": nil, "shippable": nil,
	}
}

// AddPrice stores a price of a product, in the product's mode, and returns its id. It panics without that product.
func (s *Server) AddPrice(p Price) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[p.Product]
	if e == nil || e.kind != "product" {
		panic("stripe fake: a price needs its product")
	}
	if p.Currency == "" {
		p.Currency = "usd"
	}
	o := price(p)
	if p.ID != "" {
		o["id"] = p.ID
	}
	s.add("price", e.live, o)
	s.emit(nil, "price.created", o, nil)
	return o.text("id")
}

func price(p Price) object {
	o := object{
		"product": p.Product, "currency": p.Currency, "unit_amount": p.Cents, "unit_amount_decimal": strconv.FormatInt(p.Cents, 10),
		"lookup_key": orNull(p.LookupKey), "metadata": textMap(p.Metadata), "active": !p.Archived, "nickname": nil,
		"billing_scheme": "per_unit", "tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil,
		"custom_unit_amount": nil, "type": "recurring",
	}
	if p.Interval == "once" {
		o["type"], o["recurring"] = "one_time", nil
		return o
	}
	if p.Interval == "" {
		p.Interval = "month"
	}
	if p.Count == 0 {
		p.Count = 1
	}
	o["recurring"] = object{
		"interval": p.Interval, "interval_count": p.Count, "usage_type": "licensed", "meter": nil, "trial_period_days": nil,
	}
	if p.TrialDays > 0 {
		o.part("recurring")["trial_period_days"] = p.TrialDays
	}
	return o
}

func (c *call) listCustomers() (object, *apiError) {
	email := c.p.text("email")
	return c.list("customer", "customers", func(o object) bool { return email == "" || o.text("email") == email })
}

func (c *call) createCustomer() (object, *apiError) {
	o := customer(c.p.text("email"), c.p.text("name"), c.p.metadata("metadata", nil))
	o["description"], o["phone"] = orNull(c.p.text("description")), orNull(c.p.text("phone"))
	method := c.p.text("payment_method")
	c.p.ignore("invoice_settings", "address", "preferred_locales")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	card := CardNone
	if method != "" {
		card = CardPays
	}
	c.s.newCustomer(c.live, o, card, c)
	return o, nil
}

func (c *call) getCustomer() (object, *apiError) {
	if e := c.s.entries[c.id]; e != nil && e.gone && e.kind == "customer" && e.live == c.live {
		return object{"id": c.id, "object": "customer", "deleted": true}, c.p.done()
	}
	return getter("customer")(c)
}

func (c *call) updateCustomer() (object, *apiError) {
	o := c.s.get("customer", c.live, c.id)
	if o == nil {
		return nil, missing("customer", c.id)
	}
	metadata := c.p.metadata("metadata", o.part("metadata"))
	fields := object{}
	for _, name := range []string{"email", "name", "description", "phone"} {
		if c.p.has(name) {
			fields[name] = orNull(c.p.text(name))
		}
	}
	c.p.ignore("invoice_settings", "address")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	was := c.s.change(o, func(o object) {
		o["metadata"] = metadata
		for k, v := range fields {
			o[k] = v
		}
	})
	c.s.emit(c, "customer.updated", o, was)
	return o, nil
}

// deleteCustomer ends the customer's subscriptions at once, as Stripe does.
func (c *call) deleteCustomer() (object, *apiError) {
	o := c.s.get("customer", c.live, c.id)
	if o == nil {
		return nil, missing("customer", c.id)
	}
	if err := c.p.done(); err != nil {
		return nil, err
	}
	for _, id := range slices.Clone(c.s.order["subscription"]) {
		if sub := c.s.get("subscription", c.live, id); sub != nil && sub.text("customer") == c.id && !ended(sub) {
			c.s.end(sub, "canceled", "cancellation_requested", c)
		}
	}
	c.s.remove(o)
	c.s.emit(c, "customer.deleted", o, nil)
	return object{"id": c.id, "object": "customer", "deleted": true}, nil
}

func (c *call) listProducts() (object, *apiError) {
	active := c.p.flag("active")
	ids := c.p.list("ids")
	return c.list("product", "products", func(o object) bool {
		return (active == nil || o.flag("active") == *active) && (len(ids) == 0 || slices.Contains(ids, o.text("id")))
	})
}

func (c *call) createProduct() (object, *apiError) {
	var features []string
	for _, at := range c.p.indexes("marketing_features") {
		features = append(features, c.p.need(at+"[name]"))
	}
	active := c.p.flag("active")
	o := product(c.p.need("name"), c.p.text("description"), c.p.metadata("metadata", nil), features, active == nil || *active)
	if id := c.p.text("id"); id != "" {
		o["id"] = id
	}
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if c.s.entries[o.text("id")] != nil {
		return nil, invalid("id", "Product already exists.")
	}
	c.s.add("product", c.live, o)
	o["updated"] = o["created"]
	c.s.emit(c, "product.created", o, nil)
	return o, nil
}

func (c *call) updateProduct() (object, *apiError) {
	o := c.s.get("product", c.live, c.id)
	if o == nil {
		return nil, missing("product", c.id)
	}
	name, description, active := c.p.text("name"), c.p.text("description"), c.p.flag("active")
	described := c.p.has("description")
	metadata := c.p.metadata("metadata", o.part("metadata"))
	featured := c.p.has("marketing_features")
	features := []any{}
	for _, at := range c.p.indexes("marketing_features") {
		features = append(features, object{"name": c.p.need(at + "[name]")})
	}
	c.p.ignore("default_price")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	was := c.s.change(o, func(o object) {
		o["metadata"] = metadata
		if name != "" {
			o["name"] = name
		}
		if described {
			o["description"] = orNull(description)
		}
		if active != nil {
			o["active"] = *active
		}
		if featured {
			o["marketing_features"] = features
		}
	})
	c.s.emit(c, "product.updated", o, was)
	return o, nil
}

func (c *call) listPrices() (object, *apiError) {
	active, of, kind := c.p.flag("active"), c.p.text("product"), c.p.text("type")
	interval, keys := c.p.text("recurring[interval]"), c.p.list("lookup_keys")
	return c.list("price", "prices", func(o object) bool {
		return (active == nil || o.flag("active") == *active) && (of == "" || o.text("product") == of) &&
			(kind == "" || o.text("type") == kind) && (interval == "" || o.part("recurring").text("interval") == interval) &&
			(len(keys) == 0 || slices.Contains(keys, o.text("lookup_key")))
	})
}

func (c *call) createPrice() (object, *apiError) {
	p := Price{
		Product: c.p.need("product"), Currency: strings.ToLower(c.p.need("currency")), Cents: c.p.whole("unit_amount"),
		LookupKey: c.p.text("lookup_key"), Interval: "once",
	}
	metadata := c.p.metadata("metadata", nil)
	if c.p.has("recurring") {
		p.Interval = c.p.oneOf("recurring[interval]", "month", "year", "week", "day")
		p.Count = c.p.whole("recurring[interval_count]")
		p.TrialDays = c.p.whole("recurring[trial_period_days]")
	}
	active := c.p.flag("active")
	p.Archived = active != nil && !*active
	nickname := c.p.text("nickname")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if c.s.get("product", c.live, p.Product) == nil {
		return nil, missing("product", p.Product)
	}
	o := price(p)
	o["metadata"], o["nickname"] = metadata, orNull(nickname)
	c.s.add("price", c.live, o)
	c.s.emit(c, "price.created", o, nil)
	return o, nil
}

func (c *call) updatePrice() (object, *apiError) {
	o := c.s.get("price", c.live, c.id)
	if o == nil {
		return nil, missing("price", c.id)
	}
	active, key, keyed := c.p.flag("active"), c.p.text("lookup_key"), c.p.has("lookup_key")
	metadata := c.p.metadata("metadata", o.part("metadata"))
	nickname := c.p.text("nickname")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	was := c.s.change(o, func(o object) {
		o["metadata"] = metadata
		if active != nil {
			o["active"] = *active
		}
		if keyed {
			o["lookup_key"] = orNull(key)
		}
		if nickname != "" {
			o["nickname"] = nickname
		}
	})
	c.s.emit(c, "price.updated", o, was)
	return o, nil
}
