package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const variablePrefix = "TENANTGATE_"

// environment is a list of NAME=value. Of two of one name the first counts, as for os.Getenv.
type environment map[string]string

func newEnvironment(list []string) environment {
	env := make(environment, len(list))
	for _, pair := range list {
		name, value, ok := strings.Cut(pair, "=")
		if _, has := env[name]; ok && name != "" && !has {
			env[name] = value
		}
	}
	return env
}

func (e environment) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// ours returns the names of the variables that must be keys of ours, sorted.
func (e environment) ours() []string {
	var names []string
	for name := range e {
		rest, ok := strings.CutPrefix(name, variablePrefix)
		// Kubernetes makes these for a service that is called tenantgate.
		if !ok || rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_") {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// step is one step of the way from the root to a key: into a field, then, where the field is a list or a map, to one
// of its items.
type step struct {
	spec  *spec
	index int    // -1: none
	name  string // of a map's item
}

// target is what a variable may mean.
type target struct {
	steps []step
	known bool // every name in it is one that the configuration has already
}

func (t target) spec() *spec { return t.steps[len(t.steps)-1].spec }

// path returns the path as faults show it.
func (t target) path() string {
	path := ""
	for _, s := range t.steps {
		if s.spec.key != "" {
			path = childPath(path, s.spec.key)
		}
		if s.index >= 0 {
			path = indexPath(path, s.index)
		}
		if s.name != "" {
			path = childPath(path, showKey(s.name))
		}
	}
	return path
}

// match returns the keys that rest, a variable's name without what led to s, may mean. v is s's present value, which
// tells what names there are; it is invalid where there is nothing yet.
func (s *spec) match(rest string, v reflect.Value) []target {
	here := step{spec: s, index: -1}
	switch s.kind {
	case sectionKind:
		return s.matchFields(rest, v)
	case sectionsKind, textsKind:
		digits, after, more := strings.Cut(rest, "_")
		index, err := strconv.ParseUint(digits, 10, 16)
		if s.kind == textsKind && rest == "" {
			return []target{{steps: []step{here}, known: true}}
		}
		if err != nil || digits != strconv.FormatUint(index, 10) || more != (s.kind == sectionsKind) {
			return nil
		}
		here.index = int(index)
		if s.kind == textsKind {
			return []target{{steps: []step{here}, known: true}}
		}
		return prepend(here, s.elem.match(after, itemAt(v, here.index)), true)
	case textMapKind:
		if rest == "" {
			return nil
		}
		var out []target
		names, known := s.mapKeys(rest, v)
		for _, here.name = range names {
			out = append(out, target{steps: []step{here}, known: known})
		}
		return out
	case sectionMapKind:
		return s.matchNames(rest, v)
	}
	if rest != "" {
		return nil
	}
	return []target{{steps: []step{here}, known: true}}
}

func (s *spec) matchFields(rest string, v reflect.Value) []target {
	if v.IsValid() && v.Kind() == reflect.Pointer {
		v = v.Elem() // invalid for nil
	}
	var out []target
	for _, f := range s.fields {
		after, ok := strings.CutPrefix(rest, strings.ToUpper(f.key))
		if !ok || after != "" && after[0] != '_' {
			continue
		}
		var field reflect.Value
		if v.IsValid() {
			field = v.Field(f.field)
		}
		found := f.match(strings.TrimPrefix(after, "_"), field)
		if f.kind == sectionKind {
			found = prepend(step{spec: f, index: -1}, found, true)
		}
		out = append(out, found...)
	}
	return out
}

// matchNames tries every border between the name of a map's section and the key in it.
func (s *spec) matchNames(rest string, v reflect.Value) []target {
	var out []target
	for at := 1; at < len(rest); at++ {
		if rest[at] != '_' {
			continue
		}
		names, known := s.mapKeys(rest[:at], v)
		for _, name := range names {
			var elem reflect.Value
			if v.IsValid() {
				elem = v.MapIndex(reflect.ValueOf(name))
			}
			out = append(out, prepend(step{spec: s, index: -1, name: name}, s.elem.match(rest[at+1:], elem), known)...)
		}
	}
	return out
}

func prepend(first step, targets []target, known bool) []target {
	for i := range targets {
		targets[i].steps = append([]step{first}, targets[i].steps...)
		targets[i].known = targets[i].known && known
	}
	return targets
}

func itemAt(v reflect.Value, i int) reflect.Value {
	if !v.IsValid() || i >= v.Len() {
		return reflect.Value{}
	}
	return v.Index(i)
}

// mapKeys returns the map's keys that a part of a variable's name may stand for: those of the map in whatever
// spelling, else the part in lower case.
func (s *spec) mapKeys(part string, v reflect.Value) (keys []string, known bool) {
	if v.IsValid() {
		keys = slices.DeleteFunc(mapNames(v), func(key string) bool { return variablePart(key) != part })
	}
	if len(keys) > 0 {
		return keys, true
	}
	key := strings.ToLower(part)
	return []string{key}, slices.Contains(s.known, key)
}

// variablePart spells a key as variables do.
func variablePart(key string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(key))
}

// variableOf returns the variable for a key's pattern, with 0 for an index and NAME for a name.
func variableOf(pattern string) string {
	pattern = strings.NewReplacer("[]", ".0", "*", "NAME").Replace(pattern)
	return variablePrefix + variablePart(pattern)
}

// assignment is a variable and the one key that it means.
type assignment struct {
	variable, value string
	target          target
}

// applyEnvironment sets every variable of ours into cfg.
func applyEnvironment(cfg *Config, env environment, src *sources, list *findings) {
	root, v := schema(), reflect.ValueOf(cfg).Elem()
	var todo []assignment
	for _, name := range env.ours() {
		t, problem := choose(root, root.match(strings.TrimPrefix(name, variablePrefix), v), name)
		if problem != "" {
			list.add(Fault{Variable: name, Message: problem})
			continue
		}
		todo = append(todo, assignment{name, env[name], t})
	}
	slices.SortStableFunc(todo, func(a, b assignment) int { return compareSteps(a.target.steps, b.target.steps) })
	for _, a := range todo {
		path := a.target.path()
		if problem := assign(v, a.target.steps, a.value); problem != "" {
			list.add(Fault{Variable: a.variable, Path: path, Message: problem})
			continue
		}
		src.at[path] = origin{variable: a.variable}
		for up := parentPath(path); up != ""; up = parentPath(up) { // a section that only variables made
			if _, has := src.at[up]; has {
				break
			}
			src.at[up] = origin{variable: a.variable}
		}
	}
}

// compareSteps orders a list before its items and items by number, so that each finds the one before it.
func compareSteps(a, b []step) int {
	return slices.CompareFunc(a, b, func(x, y step) int {
		return cmp.Or(cmp.Compare(x.spec.pattern, y.spec.pattern), cmp.Compare(x.index, y.index), cmp.Compare(x.name, y.name))
	})
}

// choose picks the one meaning of a variable, or says why there is none.
func choose(root *spec, found []target, name string) (target, string) {
	if known := slices.DeleteFunc(slices.Clone(found), func(t target) bool { return !t.known }); len(known) > 0 {
		found = known
	}
	switch len(found) {
	case 0:
		return target{}, unknownVariable(root, name)
	case 1:
		s := found[0].spec()
		if last := found[0].steps[len(found[0].steps)-1]; s.known != nil && !slices.Contains(s.known, last.name) {
			return target{}, unknownVariable(root, name)
		}
		return found[0], ""
	}
	var paths []string
	for _, t := range found {
		paths = append(paths, t.path())
	}
	return target{}, "may mean " + strings.Join(paths, " or ") + "; set it in the file, or choose names that differ by more than signs"
}

func unknownVariable(root *spec, name string) string {
	if fromKubernetes(name) {
		return "unknown variable, which Kubernetes made of a service's name; set enableServiceLinks: false in the pod, or rename the service"
	}
	var all []string
	root.leaves(func(s *spec) { all = append(all, strings.TrimPrefix(variableOf(s.pattern), variablePrefix)) })
	plain := strings.Map(func(r rune) rune {
		if r >= '1' && r <= '9' {
			return '0'
		}
		return r
	}, strings.TrimPrefix(name, variablePrefix))
	if near := nearest(plain, all); near != "" {
		return "unknown variable; did you mean " + variablePrefix + near + "?"
	}
	return "unknown variable; it stands for no key of the configuration"
}

// fromKubernetes recognises the forms of service links: NAME_SERVICE_HOST, NAME_SERVICE_PORT…, NAME_PORT,
// NAME_PORT_80_TCP….
func fromKubernetes(name string) bool {
	if strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") || strings.HasSuffix(name, "_PORT") {
		return true
	}
	_, after, ok := strings.Cut(name, "_PORT_")
	digits, proto, _ := strings.Cut(after, "_")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == "" &&
		(strings.HasPrefix(proto, "TCP") || strings.HasPrefix(proto, "UDP") || strings.HasPrefix(proto, "SCTP"))
}

// assign sets text at the end of the steps and returns what is wrong with it, or "".
func assign(v reflect.Value, steps []step, text string) string {
	st, rest := steps[0], steps[1:]
	if st.spec.key != "" {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(st.spec.field)
	}
	switch {
	case st.name != "":
		return assignNamed(v, st, rest, text)
	case st.index >= 0:
		return assignItem(v, st, rest, text)
	case st.spec.kind == sectionKind:
		return assign(v, rest, text)
	case st.spec.kind == textsKind:
		return assignList(v, st.spec, text)
	}
	return setScalar(st.spec, v, text)
}

func assignNamed(m reflect.Value, st step, rest []step, text string) string {
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	key := reflect.ValueOf(st.name)
	if st.spec.kind == textMapKind {
		m.SetMapIndex(key, reflect.ValueOf(text))
		return ""
	}
	if !looksLikeKey(st.name) {
		return "a name is made of letters, digits, - and _, 64 at most"
	}
	elem := reflect.New(m.Type().Elem()).Elem()
	if old := m.MapIndex(key); old.IsValid() {
		elem.Set(old)
	}
	problem := assign(elem, rest, text)
	m.SetMapIndex(key, elem)
	return problem
}

func assignItem(list reflect.Value, st step, rest []step, text string) string {
	switch n := list.Len(); {
	case st.index > n:
		return fmt.Sprintf("item %d cannot be set: the list has %d, and items are numbered from 0 without gaps", st.index, n)
	case st.index == n:
		list.Set(reflect.Append(list, reflect.New(list.Type().Elem()).Elem()))
	}
	if st.spec.kind == sectionsKind {
		return assign(list.Index(st.index), rest, text)
	}
	if text == "" {
		return "must not be empty"
	}
	list.Index(st.index).SetString(text)
	return ""
}

// assignList takes a list of texts, separated by commas. An empty variable is an empty list.
func assignList(v reflect.Value, s *spec, text string) string {
	list := []string{}
	if strings.TrimSpace(text) == "" {
		if s.nonEmpty {
			return emptyMessage(s)
		}
	} else {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part == "" {
				return "holds an empty item; separate items by one comma"
			}
			list = append(list, part)
		}
	}
	v.Set(reflect.ValueOf(list).Convert(v.Type()))
	return ""
}
