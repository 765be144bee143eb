package stripefake

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// object is an API object in the current shape. Nested objects are of this type too, lists are []any, numbers int64.
type object map[string]any

// Object is a copy of an API object, in the current shape.
type Object = map[string]any

func (o object) text(key string) string    { v, _ := o[key].(string); return v }
func (o object) whole(key string) int64    { v, _ := o[key].(int64); return v }
func (o object) flag(key string) bool      { v, _ := o[key].(bool); return v }
func (o object) part(key string) object    { v, _ := o[key].(object); return v }
func (o object) when(key string) time.Time { return time.Unix(o.whole(key), 0).UTC() }

// items are the objects of a nested list.
func (o object) items(key string) []object {
	data, _ := o.part(key)["data"].([]any)
	found := make([]object, 0, len(data))
	for _, d := range data {
		if item, ok := d.(object); ok {
			found = append(found, item)
		}
	}
	return found
}

func clone(v any) any {
	switch t := v.(type) {
	case object:
		c := make(object, len(t))
		for k, e := range t {
			c[k] = clone(e)
		}
		return c
	case []any:
		c := make([]any, len(t))
		for i, e := range t {
			c[i] = clone(e)
		}
		return c
	}
	return v
}

// entry is a stored object with what it was before, for lists that lag behind.
type entry struct {
	kind string
	live bool
	now  object
	past []version
	gone bool // deleted: only its id can be fetched
}

type version struct {
	at time.Time
	o  object // nil: deleted
}

func newID(prefix string) string { return prefix + "_" + rand.Text()[:20] }

func (s *Server) unix() int64 { return s.now().Unix() }

// add stores a new object under its id.
func (s *Server) add(kind string, live bool, o object) object {
	if o["id"] == nil {
		o["id"] = newID(prefixes()[kind])
	}
	o["object"], o["livemode"] = kind, live
	if o["created"] == nil {
		o["created"] = s.unix()
	}
	id := o.text("id")
	s.entries[id] = &entry{kind: kind, live: live, now: o, past: []version{{s.now(), clone(o).(object)}}}
	s.order[kind] = append(s.order[kind], id)
	return o
}

func prefixes() map[string]string {
	return map[string]string{
		"customer": "cus", "product": "prod", "price": "price", "subscription": "sub", "subscription_item": "si", "invoice": "in",
		"event": "evt", "billing_portal.session": "bps", "payment_intent": "pi",
	}
}

// get finds an object of that kind and mode that is not deleted.
func (s *Server) get(kind string, live bool, id string) object {
	e := s.entries[id]
	if e == nil || e.kind != kind || e.live != live || e.gone {
		return nil
	}
	return e.now
}

// change lets edit change an object and returns the former values of what differs, top level.
func (s *Server) change(o object, edit func(o object)) object {
	e := s.entries[o.text("id")]
	before := clone(o).(object)
	edit(o)
	was := object{}
	for k := range union(before, o) {
		if !reflect.DeepEqual(before[k], o[k]) {
			was[k] = before[k]
		}
	}
	if len(was) > 0 {
		e.past = append(e.past, version{s.now(), clone(o).(object)})
	}
	return was
}

func union(a, b object) map[string]bool {
	keys := map[string]bool{}
	for k := range maps.Keys(a) {
		keys[k] = true
	}
	for k := range maps.Keys(b) {
		keys[k] = true
	}
	return keys
}

// remove deletes an object, as Stripe does: its id stays known.
func (s *Server) remove(o object) {
	e := s.entries[o.text("id")]
	e.gone = true
	e.past = append(e.past, version{s.now(), nil})
}

// seen is the object as lists show it now; nil if they do not.
func (s *Server) seen(e *entry) object {
	if s.lag <= 0 {
		if e.gone {
			return nil
		}
		return e.now
	}
	then := s.now().Add(-s.lag)
	for _, v := range slices.Backward(e.past) {
		if !v.at.After(then) {
			return v.o
		}
	}
	return nil
}

// Get returns the object with that id, in the current shape and as it is now; nil if there is none.
func (s *Server) Get(id string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	e := s.entries[id]
	if e == nil || e.gone {
		return nil
	}
	return plain(e.now)
}

// All returns every object of that kind ("subscription", "event" …), oldest first, whatever its mode.
func (s *Server) All(kind string) []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	var all []Object
	for _, id := range s.order[kind] {
		if e := s.entries[id]; !e.gone {
			all = append(all, plain(e.now))
		}
	}
	return all
}

// plain is a copy without our own type, numbers as JSON has them.
func plain(o object) Object {
	text, err := json.Marshal(shaped(o, VersionCurrent))
	if err != nil {
		panic(fmt.Sprintf("stripe fake: %T is no JSON", o))
	}
	var p Object
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&p); err != nil {
		panic("stripe fake: its own JSON is none")
	}
	return p
}

// shaped is a copy of the object as that API version shows it.
func shaped(o object, apiVersion string) object {
	c := clone(o).(object)
	if apiVersion < VersionBasil {
		walk(c, oldShape)
	}
	walk(c, func(o object) {
		for k := range o {
			if strings.HasPrefix(k, hidden) {
				delete(o, k)
			}
		}
	})
	return c
}

// hidden begins the names of what the account knows of an object and never shows.
const hidden = "_"

// walk visits every object within v, the innermost first.
func walk(v any, visit func(object)) {
	switch t := v.(type) {
	case object:
		for _, e := range t {
			walk(e, visit)
		}
		visit(t)
	case []any:
		for _, e := range t {
			walk(e, visit)
		}
	}
}

// oldShape turns an object into what it was before 2025-03-31.basil.
func oldShape(o object) {
	switch o.text("object") {
	case "subscription":
		for i, item := range o.items("items") {
			if i == 0 {
				o["current_period_start"], o["current_period_end"] = item["current_period_start"], item["current_period_end"]
				o["plan"], o["quantity"] = plan(item.part("price")), item["quantity"]
			}
			delete(item, "current_period_start")
			delete(item, "current_period_end")
			item["plan"] = plan(item.part("price"))
		}
		delete(o, "billing_mode")
	case "invoice":
		details := o.part("parent").part("subscription_details")
		o["subscription"] = details["subscription"]
		o["subscription_details"] = object{"metadata": details["metadata"]}
		o["paid"] = o.text("status") == "paid"
		for _, line := range o.items("lines") {
			line["price"] = line["_price"]
			line["type"] = "subscription"
			line["subscription"] = details["subscription"]
			delete(line, "parent")
			delete(line, "pricing")
		}
		delete(o, "parent")
	case "event":
		// The names of what changed follow the shape.
		previous, _ := o.part("data")["previous_attributes"].(object)
		if items := previous.items("items"); len(items) > 0 && items[0]["current_period_end"] != nil {
			previous["current_period_start"], previous["current_period_end"] = items[0]["current_period_start"], items[0]["current_period_end"]
		}
	}
}

func plan(price object) object {
	recurring := price.part("recurring")
	return object{
		"id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"], "currency": price["currency"],
		"interval": recurring["interval"], "interval_count": recurring["interval_count"], "product": price["product"],
		"livemode": price["livemode"], "metadata": clone(price["metadata"]), "nickname": price["nickname"], "created": price["created"],
	}
}
