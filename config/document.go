package config

import (
	"bytes"
	"errors"
	"regexp"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of one configuration file. The parser's time grows with the square of some of them and its stack with the
// depth, so they are held before it runs.
const (
	maxFileBytes = 1 << 20
	maxTokens    = 50_000
	maxNodes     = 50_000 // after aliases are followed
	maxDepth     = 32
)

type nodeKind uint8

const (
	nullNode nodeKind = iota
	scalarNode
	listNode
	dictNode
)

// node is one value of a document: aliases followed, merge keys merged, variables put in.
type node struct {
	kind   nodeKind
	text   string // of a scalar
	quoted bool   // a scalar in quotes or a block: text, whatever it looks like
	loose  bool   // a variable was put in: what it looks like decides
	origin origin

	items   []*node // of a list
	lossy   bool    // an item is left out, having been reported
	entries []entry // of a dict, keys unique
}

type entry struct {
	key    string
	origin origin
	value  *node
}

// reader turns one YAML document into nodes.
type reader struct {
	lookup func(string) (string, bool)
	report func(at origin, path, message string)

	anchors map[string]ast.Node
	open    map[ast.Node]bool // anchors whose value is being read: an alias to one never ends
	nodes   int
	full    bool
}

// readDocument reads data as one YAML document. It returns nil where there is nothing to read, having reported why
// unless the document is just empty.
func readDocument(data []byte, lookup func(string) (string, bool), report func(origin, string, string)) *node {
	start := origin{line: 1, column: 1}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) > maxFileBytes {
		report(start, "", "is larger than 1MiB; a configuration is not")
		return nil
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		report(start, "", "is not UTF-8 text")
		return nil
	}
	file, at, problem := parseYAML(data)
	if problem != "" {
		report(at, "", problem)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch doc.Body.(type) {
		case nil, *ast.CommentGroupNode, *ast.DirectiveNode:
			continue
		}
		if body != nil {
			report(beginning(doc.Body), "", "holds a second YAML document; only one is read, so join them or take the second out")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		return nil
	}
	r := &reader{lookup: lookup, report: report, anchors: map[string]ast.Node{}, open: map[ast.Node]bool{}}
	return r.value(body, "", 0)
}

// parseYAML holds the bounds and runs the parser. A panic of the parser counts as a fault of the document: outside
// input must not end a running proxy that merely looks at a new file.
func parseYAML(data []byte) (file *ast.File, at origin, problem string) {
	const unreadable = "cannot be read as YAML"
	at = origin{line: 1, column: 1}
	defer func() {
		if recover() != nil {
			file, problem = nil, unreadable
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if at, problem := overBounds(tokens); problem != "" {
		return nil, at, problem
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, at, ""
	}
	var syntax interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &syntax) {
		return nil, at, unreadable
	}
	// The message's quotes hold what stands in the file, which may be a secret.
	said := regexp.MustCompile(`\s*"[^"]*"?`).ReplaceAllString(syntax.GetMessage(), "")
	return nil, originOf(syntax.GetToken()), "not valid YAML: " + said
}

// overBounds says where and how a document exceeds the bounds.
func overBounds(tokens token.Tokens) (origin, string) {
	count, flow, compact, line := 0, 0, 0, 0
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if count++; count > maxTokens {
			return originOf(t), "holds more than 50000 words and signs; a configuration does not"
		}
		if t.Position != nil && t.Position.Line != line {
			line, compact = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			compact++
		}
		if flow > maxDepth || compact > maxDepth {
			return originOf(t), "is nested more than 32 deep"
		}
	}
	return origin{}, ""
}

func originOf(t *token.Token) origin {
	if t == nil || t.Position == nil {
		return origin{line: 1, column: 1}
	}
	return origin{line: max(t.Position.Line, 1), column: max(t.Position.Column, 1)}
}

// beginning is where a node begins: a block mapping where its first key does, whose own token is the ":" after it.
func beginning(n ast.Node) origin {
	at := originOf(n.GetToken())
	first, ok := n.(*ast.MappingValueNode)
	if m, mapping := n.(*ast.MappingNode); mapping && len(m.Values) > 0 {
		first, ok = m.Values[0], true
	}
	if ok && first.Start != nil && at == originOf(first.Start) {
		return originOf(first.Key.GetToken())
	}
	return at
}

// value reads one node. It returns nil after reporting why it cannot.
func (r *reader) value(n ast.Node, path string, depth int) *node {
	if r.full {
		return nil
	}
	at := beginning(n)
	if r.nodes++; r.nodes > maxNodes {
		r.full = true
		r.report(at, "", "holds more than 50000 values once its aliases are followed")
		return nil
	}
	if depth > maxDepth {
		r.report(at, "", "is nested more than 32 deep")
		return nil
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.dict(n.Values, at, path, depth)
	case *ast.MappingValueNode:
		return r.dict([]*ast.MappingValueNode{n}, at, path, depth)
	case *ast.SequenceNode:
		list := &node{kind: listNode, origin: at}
		for i, item := range n.Values {
			v := r.value(item, indexPath(path, i), depth+1)
			if v == nil {
				list.lossy = true
				continue
			}
			list.items = append(list.items, v)
		}
		return list
	case *ast.AnchorNode:
		r.anchors[n.Name.GetToken().Value] = n
		r.open[n] = true
		defer delete(r.open, n)
		return r.value(n.Value, path, depth)
	case *ast.AliasNode:
		return r.alias(n, path, depth)
	case *ast.TagNode:
		return r.tagged(n, path, depth)
	case *ast.NullNode:
		return &node{kind: nullNode, origin: at}
	}
	return r.scalar(n, at, path)
}

func (r *reader) alias(n *ast.AliasNode, path string, depth int) *node {
	at := originOf(n.GetToken())
	target, ok := r.anchors[n.Value.GetToken().Value]
	switch {
	case !ok:
		r.report(at, path, "no anchor of this name stands before the alias")
		return nil
	case r.open[target]:
		r.report(at, path, "the alias stands inside its own anchor")
		return nil
	}
	return r.value(target, path, depth+1)
}

// tagged reads !!str, which makes text of anything. No other tag has a meaning here.
func (r *reader) tagged(n *ast.TagNode, path string, depth int) *node {
	if n.Start.Value != "!!str" || n.Value == nil {
		r.report(originOf(n.Start), path, "YAML tags mean nothing here; take it out")
		return nil
	}
	v := r.value(n.Value, path, depth)
	if v != nil && v.kind == scalarNode {
		v.quoted = true
	}
	return v
}

func (r *reader) scalar(n ast.Node, at origin, path string) *node {
	v := &node{kind: scalarNode, origin: at}
	raw := ""
	switch n := n.(type) {
	case *ast.StringNode:
		raw = n.Value
		v.quoted = n.Token.Type == token.DoubleQuoteType || n.Token.Type == token.SingleQuoteType
	case *ast.LiteralNode:
		raw, v.quoted = n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		raw = n.GetToken().Value
	default:
		r.report(at, path, "cannot be read as a value")
		return nil
	}
	text, replaced, problem := expand(raw, r.lookup)
	if problem != "" {
		r.report(at, path, problem)
		return nil
	}
	v.text, v.loose = text, replaced
	return v
}

// dict reads a mapping. A key that stands twice is a fault; what << merges yields to the mapping's own keys.
func (r *reader) dict(pairs []*ast.MappingValueNode, at origin, path string, depth int) *node {
	d := &node{kind: dictNode, origin: at}
	seen := map[string]origin{}
	var merged []entry
	for _, pair := range pairs {
		if pair.Key.IsMergeKey() {
			merged = append(merged, r.merge(pair.Value, path, depth)...)
			continue
		}
		keyAt := originOf(pair.Key.GetToken())
		key, ok := keyText(pair.Key)
		if !ok {
			r.report(keyAt, path, "a key must be plain text")
			continue
		}
		if first, twice := seen[key]; twice {
			r.report(keyAt, childPath(path, showKey(key)), "stands here a second time; the first is at line "+itoa(first.line))
			continue
		}
		seen[key] = keyAt
		if v := r.value(pair.Value, childPath(path, showKey(key)), depth+1); v != nil {
			if v.kind == nullNode {
				v.origin = keyAt // nothing stands nowhere
			}
			d.entries = append(d.entries, entry{key: key, origin: keyAt, value: v})
		}
	}
	for _, e := range merged {
		if _, has := seen[e.key]; !has {
			seen[e.key] = e.origin
			d.entries = append(d.entries, e)
		}
	}
	return d
}

// merge reads the value of <<: a mapping or a list of mappings.
func (r *reader) merge(n ast.Node, path string, depth int) []entry {
	v := r.value(n, path, depth+1)
	if v == nil {
		return nil
	}
	from := []*node{v}
	if v.kind == listNode {
		from = v.items
	}
	var out []entry
	for _, m := range from {
		if m.kind != dictNode {
			r.report(m.origin, path, "<< takes a mapping or a list of mappings")
			continue
		}
		out = append(out, m.entries...)
	}
	return out
}

// keyText returns a key as it is written, numbers and words like true included. Variables are never put into keys.
func keyText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return keyText(n.Value)
	}
	return "", false
}
