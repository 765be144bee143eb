package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "canary-7f3a"

func TestASecretIsNeverPrinted(t *testing.T) { // LEAK-3
	type holder struct {
		Open   Text
		hidden Text
		list   []Text
		where  map[string]Text
	}
	s := New(canary)
	h := holder{Open: s, hidden: s, list: []Text{s}, where: map[string]Text{"k": s}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		for _, v := range []any{s, &s, h, &h, []any{s}, fmt.Errorf("wrapped: %v", s)} {
			fmt.Fprintf(&out, verb, v)
		}
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "s", s, "h", h)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "s", s, "h", h)
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{out.String(), logged.String(), string(b)} {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("printed: %s", text)
		}
	}
	if s.Reveal() != canary || s.String() != Redacted {
		t.Error("Reveal or String is wrong")
	}
}

func TestSecretsCompare(t *testing.T) {
	if !New("a").Equal(New("a")) || New("a").Equal(New("b")) || New("a").Equal(Text{}) || !New("").IsZero() {
		t.Error("Equal or IsZero is wrong")
	}
	var s Text
	if err := s.UnmarshalText([]byte("x")); err != nil || s.Reveal() != "x" || (Text{}).Reveal() != "" {
		t.Error("UnmarshalText is wrong")
	}
}
