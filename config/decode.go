package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// decoder fills a Config from nodes.
type decoder struct {
	src  *sources
	list *findings
	root *spec
}

func (d *decoder) report(at origin, path, message string) {
	d.list.add(Fault{File: d.src.file, Line: at.line, Column: at.column, Path: path, Message: message})
}

// decode fills v, a value of s's type, from n.
func (d *decoder) decode(s *spec, n *node, v reflect.Value, path string) {
	d.src.at[path] = n.origin
	if n.kind == nullNode {
		switch s.kind {
		case sectionKind, sectionsKind, sectionMapKind, textMapKind:
		default: // an empty min_role must not open a route
			d.report(n.origin, path, "has no value; write one, or leave the key out")
		}
		return
	}
	switch s.kind {
	case sectionKind:
		d.section(s, n, v, path)
	case sectionsKind:
		if d.expect(n, listNode, path, "must be a list") {
			list := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
			for i, item := range n.items {
				d.decode(s.elem, item, list.Index(i), indexPath(path, i))
			}
			v.Set(list)
		}
	case sectionMapKind:
		d.sectionMap(s, n, v, path)
	case textMapKind:
		d.textMap(s, n, v, path)
	case textsKind:
		d.texts(s, n, v, path)
	default:
		if d.expect(n, scalarNode, path, "must be "+article(s.kind)) {
			d.scalar(s, n, v, path)
		}
	}
}

// expect reports a node of another form than wanted.
func (d *decoder) expect(n *node, want nodeKind, path, message string) bool {
	if n.kind == want {
		return true
	}
	is := map[nodeKind]string{scalarNode: "a single value", listNode: "a list", dictNode: "a mapping", nullNode: "nothing"}[n.kind]
	d.report(n.origin, path, message+", and is "+is)
	return false
}

func article(k kind) string {
	switch k {
	case boolKind:
		return "true or false"
	case textKind, secretKind:
		return "text"
	}
	return "a " + k.String()
}

func (d *decoder) section(s *spec, n *node, v reflect.Value, path string) {
	if !d.expect(n, dictNode, path, "must be a section of keys") {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	for _, e := range n.entries {
		f := s.fieldFor(e.key)
		at := childPath(path, showKey(e.key))
		if f == nil {
			if strings.ContainsAny(e.key, "0123456789") { // no key of ours has one, and secrets do
				at = childPath(path, showKey(""))
			}
			d.report(e.origin, at, "unknown key"+d.suggest(s, e.key))
			continue
		}
		d.decode(f, e.value, v.Field(f.field), at)
	}
}

// suggest names the key that was probably meant: one of the same section, or one of the same name elsewhere.
func (d *decoder) suggest(s *spec, key string) string {
	if d.list.full() {
		return ""
	}
	keys := make([]string, len(s.fields))
	for i, f := range s.fields {
		keys[i] = f.key
	}
	if near := nearest(key, keys); near != "" {
		return "; did you mean " + near + "?"
	}
	elsewhere := map[string]string{}
	d.root.names(elsewhere)
	if near := nearestWithin(key, sortedKeys(elsewhere), 1); near != "" {
		return "; did you mean " + elsewhere[near] + "?"
	}
	if len(keys) > 16 {
		return "; config.example.yaml shows all keys"
	}
	return "; known here: " + strings.Join(keys, ", ")
}

func (d *decoder) sectionMap(s *spec, n *node, v reflect.Value, path string) {
	if !d.expect(n, dictNode, path, "must be sections by name") {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range n.entries {
		at := childPath(path, showKey(e.key))
		if !looksLikeKey(e.key) {
			d.report(e.origin, at, "a name is made of letters, digits, - and _, 64 at most")
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		d.decode(s.elem, e.value, elem, at)
		v.SetMapIndex(reflect.ValueOf(e.key), elem)
	}
}

func (d *decoder) textMap(s *spec, n *node, v reflect.Value, path string) {
	if !d.expect(n, dictNode, path, "must be a mapping") {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range n.entries {
		at := childPath(path, showKey(e.key))
		d.src.at[at] = e.value.origin
		if s.known != nil && !slices.Contains(s.known, e.key) {
			d.src.at[at] = e.origin
			message := "unknown key"
			if near := nearest(e.key, s.known); near != "" {
				message += "; did you mean " + near + "?"
			}
			d.report(e.origin, at, message+"; known here: "+strings.Join(s.known, ", "))
			continue
		}
		if text, ok := d.text(e.value, at); ok {
			v.SetMapIndex(reflect.ValueOf(e.key), reflect.ValueOf(text))
		}
	}
}

func (d *decoder) texts(s *spec, n *node, v reflect.Value, path string) {
	if s.orOne && n.kind == scalarNode {
		n = &node{kind: listNode, origin: n.origin, items: []*node{n}}
	}
	if !d.expect(n, listNode, path, "must be a list, such as [a, b]") {
		return
	}
	list := make([]string, 0, len(n.items))
	for i, item := range n.items {
		at := indexPath(path, i)
		d.src.at[at] = item.origin
		text, ok := d.text(item, at)
		switch {
		case ok && text == "":
			d.report(item.origin, at, "must not be empty")
		case ok:
			list = append(list, text)
		}
	}
	if len(n.items) == 0 && !n.lossy && s.nonEmpty {
		d.report(n.origin, path, emptyMessage(s))
	}
	v.Set(reflect.ValueOf(list).Convert(v.Type()))
}

// text takes a scalar as text. Numbers are taken as they are written; true and false are refused, since whoever wrote
// them did not mean a name.
func (d *decoder) text(n *node, path string) (string, bool) {
	if n.kind == nullNode {
		d.report(n.origin, path, "has no value")
		return "", false
	}
	if !d.expect(n, scalarNode, path, "must be text") {
		return "", false
	}
	if !n.quoted && !n.loose && (n.text == "true" || n.text == "false") {
		d.report(n.origin, path, "must be text; put the word in quotes if you mean it")
		return "", false
	}
	return n.text, true
}

func (d *decoder) scalar(s *spec, n *node, v reflect.Value, path string) {
	switch s.kind {
	case textKind, secretKind, uriKind:
		if _, ok := d.text(n, path); !ok {
			return
		}
	default:
		if n.quoted && !n.loose {
			d.quotedScalar(s, n, v, path)
			return
		}
	}
	if problem := setScalar(s, v, n.text); problem != "" {
		d.report(n.origin, path, problem)
	}
}

// quotedScalar takes durations and sizes in quotes, as text is often written, but no numbers and no true.
func (d *decoder) quotedScalar(s *spec, n *node, v reflect.Value, path string) {
	if s.kind == boolKind || s.kind == integerKind {
		d.report(n.origin, path, "must be "+article(s.kind)+", not text; take the quotes off")
		return
	}
	if problem := setScalar(s, v, n.text); problem != "" {
		d.report(n.origin, path, problem)
	}
}

func emptyMessage(s *spec) string {
	message := "must not be empty"
	if s.whenEmpty != "" {
		message += "; " + s.whenEmpty
	}
	return message
}

// setScalar parses text into v and returns what is wrong with it, or "". The same rules hold for files and variables.
func setScalar(s *spec, v reflect.Value, text string) (problem string) {
	var value any
	switch s.kind {
	case textKind:
		if text == "" && s.nonEmpty {
			return emptyMessage(s)
		}
		value = text
	case secretKind:
		value = secret.New(text)
	case uriKind:
		value = catalog.NewDBURI(text)
	case boolKind:
		value, problem = parseBool(text)
	case integerKind:
		value, problem = parseInteger(text)
	case durationKind:
		value, problem = parseDuration(text)
	case sizeKind:
		value, problem = parseSize(text)
	}
	if problem != "" {
		return problem
	}
	r := reflect.ValueOf(value)
	if r.IsZero() && s.positive {
		return "must be more than 0"
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	v.Set(r.Convert(v.Type()))
	if s.unlimited && v.IsZero() {
		v.SetInt(-1)
	}
	return ""
}
