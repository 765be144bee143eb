package stripefake

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params are a request's parameters, nested as their names say: a[b]=1, a[]=1, a[0][b]=1. What no handler takes is
// unknown, and an unknown parameter is refused as Stripe refuses it.
type params struct {
	values url.Values
	taken  map[string]bool
	fault  *apiError
}

func newParams(values url.Values) *params { return &params{values: values, taken: map[string]bool{}} }

func (p *params) fail(err *apiError) {
	if p.fault == nil {
		p.fault = err
	}
}

// has reports whether the parameter or a part of it was sent.
func (p *params) has(name string) bool {
	for k := range p.values {
		if k == name || strings.HasPrefix(k, name+"[") {
			return true
		}
	}
	return false
}

func (p *params) text(name string) string {
	p.taken[name] = true
	return p.values.Get(name)
}

// need is a text that must be there.
func (p *params) need(name string) string {
	v := p.text(name)
	if v == "" {
		p.fail(&apiError{Type: typeInvalid, Code: "parameter_missing", Param: name, Message: "Missing required param: " + name + "."})
	}
	return v
}

func (p *params) whole(name string) int64 {
	v := p.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		p.fail(&apiError{Type: typeInvalid, Code: "parameter_invalid_integer", Param: name, Message: "Invalid integer: " + name})
	}
	return n
}

// flag is a boolean; absent: nil.
func (p *params) flag(name string) *bool {
	switch v := p.text(name); v {
	case "":
		return nil
	case "true", "false":
		return new(v == "true")
	}
	p.fail(&apiError{Type: typeInvalid, Param: name, Message: "Invalid boolean: " + name})
	return nil
}

// oneOf is a text out of a fixed set, the first of which is the default.
func (p *params) oneOf(name string, allowed ...string) string {
	v := p.text(name)
	if v == "" {
		return allowed[0]
	}
	if !slices.Contains(allowed, v) {
		p.fail(&apiError{Type: typeInvalid, Param: name, Message: "Invalid " + name + ": must be one of " + strings.Join(allowed, ", ")})
	}
	return v
}

// list are the values of name[] or name[0], name[1] …
func (p *params) list(name string) []string {
	p.taken[name+"[]"] = true
	all := slices.Clone(p.values[name+"[]"])
	for i := 0; ; i++ {
		key := name + "[" + strconv.Itoa(i) + "]"
		if !p.values.Has(key) {
			return all
		}
		all = append(all, p.text(key))
	}
}

// indexes are the prefixes name[0], name[1] … under which something was sent.
func (p *params) indexes(name string) []string {
	var found []string
	for i := 0; p.has(name + "[" + strconv.Itoa(i) + "]"); i++ {
		found = append(found, name+"["+strconv.Itoa(i)+"]")
	}
	return found
}

// metadata merges name[key]=value into what there was; an empty value removes the key. Limits as Stripe's: 50 keys of
// 40 characters, values of 500.
func (p *params) metadata(name string, before object) object {
	m, _ := clone(before).(object)
	if m == nil {
		m = object{}
	}
	for k, v := range p.values {
		key, ok := strings.CutPrefix(k, name+"[")
		if !ok || !strings.HasSuffix(key, "]") {
			continue
		}
		p.taken[k] = true
		key = strings.TrimSuffix(key, "]")
		if len(key) > 40 || len(v[0]) > 500 {
			p.fail(&apiError{Type: typeInvalid, Param: name, Message: "Metadata keys have at most 40 characters, values 500."})
		}
		if v[0] == "" {
			delete(m, key)
		} else {
			m[key] = v[0]
		}
	}
	if len(m) > 50 {
		p.fail(&apiError{Type: typeInvalid, Param: name, Message: "Metadata has at most 50 keys."})
	}
	return m
}

// ignore takes what the fake knows and does nothing with.
func (p *params) ignore(names ...string) {
	for k := range p.values {
		for _, n := range names {
			if k == n || strings.HasPrefix(k, n+"[") {
				p.taken[k] = true
			}
		}
	}
}

// done returns the first fault, or a complaint about a parameter that nobody took.
func (p *params) done() *apiError {
	if p.fault != nil {
		return p.fault
	}
	for k := range p.values {
		if !p.taken[k] && !strings.HasPrefix(k, "expand[") {
			return &apiError{Type: typeInvalid, Code: "parameter_unknown", Param: k, Message: "Received unknown parameter: " + k}
		}
	}
	return nil
}
