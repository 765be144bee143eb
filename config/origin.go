package config

import (
	"crypto/sha256"
	"strconv"
	"strings"
)

// origin is where a value came from: a place in the file or a variable.
type origin struct {
	line, column int
	variable     string
}

// sources remembers where the values of a loaded Config came from. It is written while loading and never after, so
// that copies of a Config may share it.
type sources struct {
	file string
	at   map[string]origin // by path; "" is the document itself
	// read holds, by the path of a secret, the file that its value was read from.
	read map[string]string
	// digests are of the files as they were read.
	digests map[string][sha256.Size]byte
}

// where finds the origin of a path, or of the nearest key around it that has one.
func (s *sources) where(path string) (origin, bool) {
	if s == nil {
		return origin{}, false
	}
	for {
		if o, ok := s.at[path]; ok {
			return o, true
		}
		if path == "" {
			return origin{}, false
		}
		path = parentPath(path)
	}
}

// fault makes a Fault of a path and a message, with the place if it is known.
func (s *sources) fault(path, message string) Fault {
	f := Fault{Path: path, Message: message}
	o, ok := s.where(path)
	switch {
	case !ok:
	case o.variable != "":
		f.Variable = o.variable
	case o.line > 0:
		f.File, f.Line, f.Column = s.file, o.line, o.column
	}
	return f
}

// childPath appends a key to a path.
func childPath(path, key string) string {
	if path == "" || strings.HasPrefix(key, "[") {
		return path + key
	}
	return path + "." + key
}

// parentPath cuts the last key or index off. Quoted keys are written ["…"], so that the last "." or "[" outside of
// them is the border.
func parentPath(path string) string {
	if strings.HasSuffix(path, `"]`) {
		if at := strings.LastIndex(path, `["`); at >= 0 {
			return path[:at]
		}
	}
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// indexPath appends an index to a path.
func indexPath(path string, i int) string { return path + "[" + itoa(i) + "]" }

func itoa(i int) string { return strconv.Itoa(i) }

// showKey returns a key as paths show it. One that does not look like a key is not repeated: it may be a value that
// slipped there, as in {client_secret:hunter2}.
func showKey(key string) string {
	if looksLikeKey(key) {
		return key
	}
	return `["…"]`
}

func looksLikeKey(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
