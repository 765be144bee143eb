package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

// fixedKeys are keys that are no host database's.
func fixedKeys() *Keys {
	return &Keys{all: []signingKey{{"k1", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}}}
}

// FuzzCheckpoint: a text that is no checkpoint is refused, one that was signed comes back as it was, and nothing else carries
// its signature.
func FuzzCheckpoint(f *testing.F) {
	keys := fixedKeys()
	good := keys.Sign(Checkpoint{Seq: 41, Hash: strings.Repeat("a1", 32), At: "2026-11-28T05:00:00.123456"})
	for _, s := range []string{
		good, keys.Sign(Checkpoint{At: "2026-11-28T05:00:00"}), good + "=", good + "\n", " " + good, strings.Replace(good, "/41/", "/+41/", 1),
		strings.Replace(good, "/41/", "/041/", 1), strings.Replace(good, "/41/", "/-1/", 1), strings.Replace(good, "k1", "k2", 1),
		strings.Replace(good, "-1/", "-2/", 1), strings.ReplaceAll(good, "/", "//"), "", "/////", strings.Repeat("/", 2000),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := keys.ParseCheckpoint(text)
		if err != nil {
			if !errors.Is(err, ErrCheckpoint) && !errors.Is(err, ErrForged) || c != (Checkpoint{}) {
				t.Fatalf("%q: %+v, %v", text, c, err)
			}
			return
		}
		if again := keys.Sign(c); again != text { // Ed25519 signs one text in one way
			t.Fatalf("%q is taken for %q", text, again)
		}
	})
}

// archiveText is an archive of these rows.
func archiveText(t testing.TB, keys *Keys, rows []catalog.AuditRow) []byte {
	t.Helper()
	var file bytes.Buffer
	var h hasher
	lines, head := newLineWriter(&file), catalog.ChainHead{}
	for i := range rows {
		e := link(head, []catalog.UnchainedRow{{AuditID: rows[i][0], RowHash: h.row(&rows[i])}}, "2026-11-28T05:00:00")
		must(t, lines.write(&line{&rows[i], &e[0], head.Hash}))
		head = catalog.ChainHead{Seq: e[0].Seq, Hash: e[0].Hash}
	}
	must(t, lines.flush())
	sum := sha256.Sum256(file.Bytes())
	s := &seals{Before: "2026-12-01", Rows: int64(len(rows)), SHA256: hexOf(sum), Checkpoint: "c"}
	s.Key, s.Signature = keys.sign(s.body())
	must(t, json.NewEncoder(&file).Encode(lastLine{s}))
	return file.Bytes()
}

func hexOf(sum [32]byte) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range sum {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// FuzzArchive: whatever a file holds, it is read to its end or refused. What is taken as whole is the file that was signed,
// and each line is what encoding/json reads in it.
func FuzzArchive(f *testing.F) {
	keys := fixedKeys()
	odd := catalog.AuditRow{
		{Kind: catalog.AuditText, Text: "a1"},
		{},
		{Kind: catalog.AuditText, Text: "\x00\x1f\"\\/\b\f\n\r\t\u2028\u2029é😀<&>"},
		{Kind: catalog.AuditText, Text: "\xff\xe2\x80"},
		{Kind: catalog.AuditBytes, Text: "\x00\x01"},
		{Kind: catalog.AuditOther, Text: "-1.5"},
		{Kind: catalog.AuditText},
	}
	good := archiveText(f, keys, []catalog.AuditRow{odd, {{Kind: catalog.AuditText, Text: "a2"}}})
	end := bytes.LastIndexByte(good[:len(good)-1], '\n') + 1
	for _, b := range [][]byte{
		good, good[:end], good[end:], append(bytes.Clone(good), good...), nil, []byte("\n"), []byte(lastLineBegin), []byte(lastLineBegin + "null}"),
		bytes.ReplaceAll(good, []byte("null"), []byte("nul")), bytes.ReplaceAll(good, []byte(`\u0000`), []byte(`\ud83d\ude00`)),
		bytes.ReplaceAll(good, []byte(`\u0000`), []byte(`\ud83d`)), bytes.ReplaceAll(good, []byte(`"blob":true`), []byte(`"blob":false`)),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		last, err := readLines(bytes.NewReader(file), keys, nil)
		if err == nil {
			if last.SHA256 != hexOf(sha256.Sum256(good[:end])) || !bytes.HasPrefix(file, good[:end]) {
				t.Fatalf("another file than the one that was signed is taken: %q", file)
			}
		}
		in := newLineReader(bytes.NewReader(file), sha256.New())
		for text := range bytes.Lines(file) {
			l, err := in.line()
			if err != nil {
				break
			}
			comparedWithJSON(t, text, l)
		}
	})
}

// comparedWithJSON compares a line that was taken with what encoding/json reads, and writes it again.
func comparedWithJSON(t *testing.T, text []byte, l *line) {
	t.Helper()
	var object map[string]any
	if utf8.Valid(text) {
		if err := json.Unmarshal(text, &object); err != nil {
			t.Fatalf("%q is taken: %v", text, err)
		}
		for i, name := range catalog.AuditColumns() {
			if want, got := object[name], l.row[i]; jsonColumn(want) != got {
				t.Fatalf("%q: %s is read as %+v, by JSON as %#v", text, name, got, want)
			}
		}
		if (l.entry == nil) != (object["seq"] == nil) {
			t.Fatalf("%q: entry %+v", text, l.entry)
		}
	}
	var again bytes.Buffer
	lines := newLineWriter(&again)
	must(t, lines.write(l))
	must(t, lines.flush())
	back, err := newLineReader(&again, sha256.New()).line()
	if err != nil || *back.row != *l.row || (l.entry != nil) && (*back.entry != *l.entry || back.previous != l.previous) {
		t.Fatalf("%q does not come back: %v", text, err)
	}
}

func jsonColumn(v any) catalog.AuditValue {
	switch v := v.(type) {
	case string:
		return catalog.AuditValue{Kind: catalog.AuditText, Text: v}
	case map[string]any:
		if number, ok := v["number"].(string); ok {
			return catalog.AuditValue{Kind: catalog.AuditOther, Text: number}
		}
		text, _ := v["base64"].(string)
		plain, err := base64.StdEncoding.DecodeString(text)
		if err == nil && v["blob"] == true {
			return catalog.AuditValue{Kind: catalog.AuditBytes, Text: string(plain)}
		}
		return catalog.AuditValue{Kind: catalog.AuditText, Text: string(plain)}
	}
	return catalog.AuditValue{}
}

// FuzzLine: any row comes back from its line as it was, and text reads as encoding/json writes it.
func FuzzLine(f *testing.F) {
	f.Add("a", "\x00\x1f\"\\\b\f\n\r\t\u2028\u2029\u202aé😀<&>\x7f", byte(1))
	f.Add("\xff", "\xe2\x80\xa8\xe2", byte(2))
	f.Add("1.5", strings.Repeat("\u2028x", 300), byte(3))
	f.Add("", "", byte(0))
	f.Fuzz(func(t *testing.T, first, second string, kind byte) {
		kinds := []catalog.AuditKind{catalog.AuditNull, catalog.AuditText, catalog.AuditBytes, catalog.AuditOther}
		row := catalog.AuditRow{{Kind: kinds[kind%4], Text: first}, {Kind: catalog.AuditText, Text: second}}
		if row[0].Kind == catalog.AuditNull || row[0].Kind == catalog.AuditOther && !utf8.ValidString(first) {
			row[0] = catalog.AuditValue{} // a number is text of the engine's
		}
		var out, want bytes.Buffer
		lines := newLineWriter(&out)
		must(t, lines.write(&line{row: &row}))
		must(t, lines.flush())
		text := bytes.Clone(out.Bytes())
		back, err := newLineReader(&out, sha256.New()).line()
		if err != nil || *back.row != row {
			t.Fatalf("%q: %+v, %v", text, back, err)
		}
		if utf8.ValidString(second) {
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			must(t, enc.Encode(second))
			if !bytes.Contains(text, bytes.TrimSuffix(want.Bytes(), []byte("\n"))) {
				t.Fatalf("%q, encoding/json writes %q", text, want.Bytes())
			}
		}
	})
}
