package config

import "strings"

// expand replaces ${NAME} by the variable's value and $$ by $, once, from left to right: what a value brings in is not
// looked at again. Any other $ stands for itself. It returns whether anything was replaced by a variable, and what is
// wrong, or "".
func expand(s string, lookup func(string) (string, bool)) (out string, replaced bool, problem string) {
	if !strings.Contains(s, "$") {
		return s, false, ""
	}
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at == len(s)-1 {
			b.WriteString(s)
			return b.String(), replaced, ""
		}
		b.WriteString(s[:at])
		switch s[at+1] {
		case '$':
			b.WriteByte('$')
			s = s[at+2:]
		case '{':
			name, rest, ok := strings.Cut(s[at+2:], "}")
			if !ok || !isVariableName(name) {
				return "", false, "${NAME} takes the name of an environment variable and nothing else; write $$ for a plain $"
			}
			value, set := lookup(name)
			if !set {
				return "", false, "the environment variable " + name + " is not set; set it, or write $$ for a plain $"
			}
			b.WriteString(value)
			s, replaced = rest, true
		default:
			b.WriteByte('$')
			s = s[at+1:]
		}
	}
}

// isVariableName accepts what shells accept: letters, digits and _, no digit first, at most 256 bytes.
func isVariableName(s string) bool {
	if s == "" || len(s) > 256 || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}
