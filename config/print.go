package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// YAML returns what is in force, defaults included, as a configuration file that documents each key and says where its
// value came from. Secrets read ***. With the secrets put back, Load makes the same Config of it.
func (c *Config) YAML() []byte {
	effective := *c
	effective.Defaults()
	p := &printer{src: c.src, told: map[string]bool{}}
	p.raw("# The configuration in force. Lengths of time: ms, s, m, h, d. Sizes: B, KiB, MiB, GiB. Secrets read " + secret.Redacted + ".\n")
	p.section(schema(), reflect.ValueOf(effective), "", 0, false)
	return p.out.Bytes()
}

type printer struct {
	out  bytes.Buffer
	src  *sources
	told map[string]bool // patterns that are documented already
}

func (p *printer) raw(s string) { p.out.WriteString(s) }

// section writes the keys of a section. In a list the first line begins with the dash.
func (p *printer) section(s *spec, v reflect.Value, path string, depth int, item bool) {
	for i, f := range s.fields {
		field := v.Field(f.field)
		at := childPath(path, f.key)
		if depth == 0 {
			p.raw("\n")
		}
		lead := strings.Repeat("  ", depth)
		p.document(f, lead)
		if item && i == 0 {
			lead = strings.Repeat("  ", depth-1) + "- "
		}
		p.key(f, field, at, lead, depth)
	}
}

// document writes a key's text once.
func (p *printer) document(s *spec, lead string) {
	if s.doc == "" || p.told[s.pattern] {
		return
	}
	p.told[s.pattern] = true
	for _, line := range wrap(s.doc+among(s), 110-len(lead)) {
		p.raw(lead + "# " + line + "\n")
	}
}

// among names the words that a value, or each item of a list, may be.
func among(s *spec) string {
	switch {
	case len(s.oneOf) < 2:
		return ""
	case s.kind == textsKind:
		return " Items: " + strings.Join(s.oneOf, ", ") + "."
	}
	return " One of: " + strings.Join(s.oneOf, ", ") + "."
}

func (p *printer) key(s *spec, v reflect.Value, path, lead string, depth int) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			p.raw(strings.Replace(lead, "- ", "  ", 1) + "# " + s.key + ": not set\n")
			return
		}
		v = v.Elem()
	}
	switch s.kind {
	case sectionKind:
		p.raw(lead + s.key + ":\n")
		p.section(s, v, path, depth+1, false)
	case sectionsKind:
		p.sections(s, v, path, lead, depth)
	case sectionMapKind:
		p.named(s, v, path, lead, depth)
	case textMapKind:
		p.textMap(s, v, path, lead, depth)
	default:
		text, absent := p.leaf(s, v, path)
		if absent {
			p.raw(lead + "# " + s.key + ": " + text + "\n")
			return
		}
		p.raw(lead + s.key + ": " + text + p.from(path) + "\n")
	}
}

func (p *printer) sections(s *spec, v reflect.Value, path, lead string, depth int) {
	if v.Len() == 0 {
		p.raw(lead + s.key + ": []" + p.from(path) + "\n")
		return
	}
	p.raw(lead + s.key + ":\n")
	for i := range v.Len() {
		p.section(s.elem, v.Index(i), indexPath(path, i), depth+2, true)
	}
}

func (p *printer) named(s *spec, v reflect.Value, path, lead string, depth int) {
	names := mapNames(v)
	if len(names) == 0 {
		p.raw(lead + s.key + ": {}" + p.from(path) + "\n")
		return
	}
	p.raw(lead + s.key + ":\n")
	for _, name := range names {
		p.raw(lead + "  " + quote(name) + ":\n")
		p.section(s.elem, v.MapIndex(reflect.ValueOf(name)), childPath(path, showKey(name)), depth+2, false)
	}
}

func (p *printer) textMap(s *spec, v reflect.Value, path, lead string, _ int) {
	if v.Len() == 0 {
		p.raw(lead + s.key + ": {}" + p.from(path) + "\n")
		return
	}
	p.raw(lead + s.key + ":\n")
	for _, name := range mapNames(v) {
		value := v.MapIndex(reflect.ValueOf(name)).String()
		p.raw(lead + "  " + quoteKey(name) + ": " + quote(value) + p.from(childPath(path, showKey(name))) + "\n")
	}
}

// leaf returns a value as YAML, or, where the key cannot be written with what is in force, what to say instead.
func (p *printer) leaf(s *spec, v reflect.Value, path string) (text string, absent bool) {
	if v.IsZero() && (s.positive || s.nonEmpty) {
		return s.def, true
	}
	if s.kind == secretKind || s.kind == uriKind {
		if p.src != nil && p.src.read[path] != "" && !v.IsZero() {
			return "read from " + s.key + "_file", true
		}
	}
	return formatLeaf(v), false
}

// formatLeaf writes a value as Load reads it, secrets redacted.
func formatLeaf(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case secret.Text:
		return quote(value.String())
	case catalog.DBURI:
		return quote(value.String())
	case time.Duration:
		return formatDuration(max(value, 0)) // -1: unlimited, written as 0
	case router.Bytes:
		return formatSize(max(value, 0))
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = quote(v.Index(i).String())
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	if v.Kind() == reflect.String {
		return quote(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// from says where a value was written.
func (p *printer) from(path string) string {
	if p.src == nil {
		return ""
	}
	o, ok := p.src.at[path]
	switch {
	case !ok:
		return " # default"
	case o.variable != "":
		return " # " + o.variable
	}
	return fmt.Sprintf(" # %s:%d", oneLine(p.src.file), o.line)
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// quote writes a text value: plain where every YAML reader takes it for text, else in double quotes, and $ as $$.
func quote(s string) string { return quoteKey(strings.ReplaceAll(s, "$", "$$")) }

// quoteKey is quote for keys, in which $ means nothing.
func quoteKey(s string) string {
	words := []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
	if regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@-]*$`).MatchString(s) && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // its strings are YAML's double-quoted ones
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string and a buffer: cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}

// wrap breaks text between words into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
