package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

type kind uint8

const (
	textKind       kind = iota
	secretKind          // secret.Text
	uriKind             // catalog.DBURI
	boolKind            // true or false
	integerKind         // decimal, not negative
	durationKind        // time.Duration
	sizeKind            // router.Bytes
	textsKind           // a list of text
	textMapKind         // text by key
	sectionKind         // keys of its own
	sectionsKind        // a list of sections
	sectionMapKind      // sections by name
)

// String names the kind for people.
func (k kind) String() string {
	return [...]string{
		"text", "secret text", "database URL", "true or false", "whole number", "duration", "size",
		"list", "map", "section", "list of sections", "sections by name",
	}[k]
}

// spec is one known key. The tree of them is made from the yaml tags of Config, so that a key that is documented and a
// field that is filled are the same thing.
type spec struct {
	key     string
	pattern string // path with [] for indexes and * for names
	kind    kind
	field   int  // index in the struct around it
	pointer bool // nil means the default
	orOne   bool // a list that may be written as one value
	keyDoc

	fields []*spec // of a section
	elem   *spec   // of sections and sections by name: the section
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[router.Bytes]()
	secretType   = reflect.TypeFor[secret.Text]()
	uriType      = reflect.TypeFor[catalog.DBURI]()
	listenType   = reflect.TypeFor[Listen]()
)

// schema returns the root of the known keys.
func schema() *spec {
	root := &spec{kind: sectionKind}
	root.fields = fieldsOf(reflect.TypeFor[Config](), "", keyDocs())
	return root
}

func fieldsOf(t reflect.Type, prefix string, docs map[string]keyDoc) []*spec {
	var out []*spec
	for i := range t.NumField() {
		key := t.Field(i).Tag.Get("yaml")
		if key == "" || key == "-" {
			continue
		}
		s := &spec{key: key, field: i, pattern: strings.TrimPrefix(prefix+"."+key, ".")}
		s.keyDoc = docs[s.pattern]
		s.take(t.Field(i).Type, docs)
		out = append(out, s)
	}
	return out
}

// take sets kind and children from a field's type. A type that nobody can configure is a programming error, which the
// package's tests find.
func (s *spec) take(t reflect.Type, docs map[string]keyDoc) {
	if t.Kind() == reflect.Pointer {
		s.pointer, t = true, t.Elem()
	}
	switch {
	case t == durationType:
		s.kind = durationKind
	case t == sizeType:
		s.kind = sizeKind
	case t == secretType:
		s.kind = secretKind
	case t == uriType:
		s.kind = uriKind
	case t.Kind() == reflect.String:
		s.kind = textKind
	case t.Kind() == reflect.Bool:
		s.kind = boolKind
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		s.kind = integerKind
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		s.kind, s.orOne = textsKind, t == listenType
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.String:
		s.kind = textMapKind
	case t.Kind() == reflect.Struct:
		s.kind, s.fields = sectionKind, fieldsOf(t, s.pattern, docs)
	case t.Kind() == reflect.Slice:
		s.kind = sectionsKind
		s.elem = sectionOf(t.Elem(), s.pattern+"[]", docs)
	case t.Kind() == reflect.Map:
		s.kind = sectionMapKind
		s.elem = sectionOf(t.Elem(), s.pattern+".*", docs)
	default:
		panic(fmt.Sprintf("config: %s has the type %s, which has no form in YAML", s.pattern, t))
	}
}

func sectionOf(t reflect.Type, pattern string, docs map[string]keyDoc) *spec {
	return &spec{kind: sectionKind, pattern: pattern, fields: fieldsOf(t, pattern, docs)}
}

// fieldFor finds a key of a section.
func (s *spec) fieldFor(key string) *spec {
	for _, f := range s.fields {
		if f.key == key {
			return f
		}
	}
	return nil
}

// leaves calls f for every key below s that holds a value.
func (s *spec) leaves(f func(*spec)) {
	switch s.kind {
	case sectionKind:
		for _, child := range s.fields {
			child.leaves(f)
		}
	case sectionsKind, sectionMapKind:
		s.elem.leaves(f)
	default:
		f(s)
	}
}

// names adds every key below s to the map, with the pattern of the first that is called so.
func (s *spec) names(to map[string]string) {
	if s.elem != nil {
		s.elem.names(to)
	}
	for _, f := range s.fields {
		if _, has := to[f.key]; !has {
			to[f.key] = f.pattern
		}
		f.names(to)
	}
}

// nearest returns the candidate that a misspelt word most likely meant, or "".
func nearest(word string, candidates []string) string {
	return nearestWithin(word, candidates, len(word)/3+1)
}

func nearestWithin(word string, candidates []string, bound int) (best string) {
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c), bound); d <= bound {
			best, bound = c, d-1
		}
	}
	return best
}

// distance is the optimal string alignment distance, or more than bound as soon as it must be.
func distance(a, b string, bound int) int {
	if len(a) > 128 || len(b) > 128 || max(len(a), len(b))-min(len(a), len(b)) > bound {
		return bound + 1
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
