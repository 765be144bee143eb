package config

import (
	"reflect"
	"slices"
)

// walk calls f for every key below s that holds a value, with that value (invalid for a nil pointer) and its path.
// Sections by name come in the order of their names.
func (s *spec) walk(v reflect.Value, path string, f func(s *spec, v reflect.Value, path string)) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch s.kind {
	case sectionKind:
		if !v.IsValid() {
			return
		}
		for _, child := range s.fields {
			child.walk(v.Field(child.field), childPath(path, child.key), f)
		}
	case sectionsKind:
		for i := range v.Len() {
			s.elem.walk(v.Index(i), indexPath(path, i), f)
		}
	case sectionMapKind:
		for _, name := range mapNames(v) {
			s.elem.walk(v.MapIndex(reflect.ValueOf(name)), childPath(path, showKey(name)), f)
		}
	default:
		f(s, v, path)
	}
}

func mapNames(v reflect.Value) []string {
	names := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		names = append(names, k.String())
	}
	slices.Sort(names)
	return names
}
