package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/internal/secret"
)

const masterLine = "bWFzdGVyIHNlY3JldCBvZiB0aGUgdGVzdHMsIDMyIGJ5dGVzIG9yIG1vcmU="

func testKeyset(t testing.TB, lines ...string) Keyset {
	t.Helper()
	if len(lines) == 0 {
		lines = []string{masterLine}
	}
	k, err := ParseKeyset(secret.New(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMasterSecretsAreReadInEveryBase64(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb, 0xff, 1, 2}, 8) // + and / in one alphabet, - and _ in the other
	raw[31] = 3
	var first string
	for _, line := range []string{
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), "  " + base64.StdEncoding.EncodeToString(raw) + "\r",
	} {
		k := testKeyset(t, "", line, "")
		sealed, err := k.Seal("p", []byte("x"))
		if err != nil || k.Len() != 1 {
			t.Fatalf("%d secrets, %v", k.Len(), err)
		}
		id := strings.Split(sealed, ":")[1]
		if first == "" {
			first = id
		}
		if id != first {
			t.Fatalf("line read as another secret")
		}
	}
}

func TestBadSecretLinesAreAllReportedByNumberAndNeverShown(t *testing.T) { // FAIL-1
	content := strings.Join([]string{masterLine, "canary-not-base64!", "Y2FuYXJ5LXRvby1zaG9ydA==", masterLine, strings.Repeat("A", 44), strings.Repeat("a", 2000)}, "\n")
	_, err := ParseKeyset(secret.New(content))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"line 2:", "line 3:", "line 5:", "line 6:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	for _, canary := range []string{"canary", "Y2Fu", "AAAA", "aaaa", "line 1:", "line 4:"} {
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%q shows %q", err, canary)
		}
	}
	for _, empty := range []string{"", "\n\n", " \r\n"} {
		if _, err := ParseKeyset(secret.New(empty)); err == nil {
			t.Errorf("%q: accepted", empty)
		}
	}
}

func TestSecretsPrintAsACountAlone(t *testing.T) { // LEAK-3
	k := testKeyset(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		out := fmt.Sprintf(verb, k)
		if strings.Contains(out, "master secret of") || strings.Contains(out, "6d6173746572") || strings.Contains(out, masterLine) {
			t.Errorf("%s shows %s", verb, out)
		}
	}
}

func TestSealedValuesOpenOnlyForTheirPurposeAndUnchanged(t *testing.T) { // CRYPT-1
	k := testKeyset(t)
	sealed, err := k.Seal("row/1", []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sealed, "plain") {
		t.Fatal("not sealed")
	}
	got, err := k.Open("row/1", sealed)
	if err != nil || string(got) != "plain" {
		t.Fatalf("%q %v", got, err)
	}
	again, err := k.Seal("row/1", []byte("plain"))
	if err != nil || again == sealed {
		t.Fatal("same nonce twice")
	}
	bad := map[string]string{
		"other purpose": "", "empty": "", "cut": sealed[:len(sealed)-2], "longer": sealed + "AA", "line end": sealed + "\n",
		"no version": sealed[3:], "other version": "v2" + sealed[2:], "padding": sealed + "=",
	}
	for i := len("v1:") + 17; i < len(sealed); i += 5 {
		flipped := []byte(sealed)
		flipped[i] ^= 1
		bad[fmt.Sprint("flipped ", i)] = string(flipped)
	}
	for name, s := range bad {
		purpose := "row/1"
		if name == "other purpose" {
			purpose, s = "row/2", sealed
		}
		if _, err := k.Open(purpose, s); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFirstSecretSealsAndAllOpen(t *testing.T) {
	one, two := GenerateSecret().Reveal(), GenerateSecret().Reveal()
	old := testKeyset(t, one)
	both := testKeyset(t, two, one, one)
	if both.Len() != 2 {
		t.Fatalf("%d secrets; a doubled line counts once", both.Len())
	}
	sealed, err := old.Seal("p", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Open("p", sealed); err != nil {
		t.Fatal(err)
	}
	fresh, err := both.Seal("p", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Open("p", fresh); !errors.Is(err, ErrOtherSecret) {
		t.Fatalf("sealed under the first line of %v", err)
	}
	if _, err := (Keyset{}).Seal("p", nil); err == nil {
		t.Fatal("sealed under nothing")
	}
}

func FuzzOpenNeverPanics(f *testing.F) {
	k, err := ParseKeyset(secret.New(masterLine))
	if err != nil {
		f.Fatal(err)
	}
	good, err := k.Seal("p", []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("v1::")
	f.Add("v1:0123456789abcdef:AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if plain, err := k.Open("p", s); err == nil && string(plain) != "plain" { // nothing else was ever sealed
			t.Fatalf("opened %q", s)
		}
	})
}

func FuzzParseKeyset(f *testing.F) {
	f.Add(masterLine)
	f.Add("a\nb\n" + masterLine)
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKeyset(secret.New(s))
		if (err == nil) == k.IsZero() {
			t.Fatalf("%d secrets and error %v", k.Len(), err)
		}
	})
}
