package ledger

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func signer(t *testing.T, keys ...byte) *Signer {
	t.Helper()
	var all [][]byte
	for _, k := range keys {
		all = append(all, bytes.Repeat([]byte{k}, 32))
	}
	s, err := NewSigner(all)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignatureIsGoodForItsTenantAndCustomerAlone(t *testing.T) {
	s := signer(t, 1)
	sig := s.Sign("acme", "cus_1")
	if len(sig) != 43 || !s.Verify("acme", "cus_1", sig) {
		t.Fatalf("signature %q does not verify", sig)
	}
	for name, bad := range map[string]struct{ tenant, customer, sig string }{
		"another tenant":       {"globex", "cus_1", sig},
		"another customer":     {"acme", "cus_2", sig},
		"moved between them":   {"acmec", "us_1", sig},
		"no signature":         {"acme", "cus_1", ""},
		"cut":                  {"acme", "cus_1", sig[:42]},
		"longer":               {"acme", "cus_1", sig + "A"},
		"padded":               {"acme", "cus_1", sig + "="},
		"not base64":           {"acme", "cus_1", strings.Repeat("*", 43)},
		"with a line break":    {"acme", "cus_1", sig[:20] + "\n" + sig[20:]},
		"of another key":       {"acme", "cus_1", signer(t, 2).Sign("acme", "cus_1")},
		"of no tenant":         {"", "cus_1", s.Sign("", "cus_1")},
		"of no customer":       {"acme", "", s.Sign("acme", "")},
		"capitals in the name": {"Acme", "cus_1", sig},
	} {
		if s.Verify(catalog.TenantID(bad.tenant), bad.customer, bad.sig) {
			t.Errorf("%s: verifies", name)
		}
	}
}

func TestSignatureNamesTheTenantOfMetadata(t *testing.T) {
	s := signer(t, 1)
	good := map[string]string{"tenant_id": "acme", "tenant_sig": s.Sign("acme", "cus_1")}
	if tenant, ok := s.Claims(good, "cus_1"); !ok || tenant != "acme" {
		t.Errorf("%q, %v", tenant, ok)
	}
	for name, metadata := range map[string]map[string]string{
		"nothing": nil, "unsigned": {"tenant_id": "acme"}, "signature alone": {"tenant_sig": good["tenant_sig"]},
		"another's": {"tenant_id": "globex", "tenant_sig": good["tenant_sig"]},
	} {
		if _, ok := s.Claims(metadata, "cus_1"); ok {
			t.Errorf("%s proves a tenant", name)
		}
	}
	if _, ok := s.Claims(good, "cus_2"); ok {
		t.Error("a copied signature proves a tenant")
	}
}

func TestOlderKeyStillVerifies(t *testing.T) {
	old := signer(t, 1).Sign("acme", "cus_1")
	both := signer(t, 2, 1)
	if !both.Verify("acme", "cus_1", old) || both.Sign("acme", "cus_1") == old {
		t.Error("the older key does not verify, or still signs")
	}
	for _, keys := range [][][]byte{nil, {{}}, {bytes.Repeat([]byte{1}, 16)}} {
		if _, err := NewSigner(keys); err == nil {
			t.Errorf("%d keys are taken", len(keys))
		}
	}
}

func TestSigningKeyIsMadeOnceAndLiesSealed(t *testing.T) {
	host, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	secrets, err := seal.ParseKeyset(secret.New("dGVzdC1tYXN0ZXItc2VjcmV0LXRlc3QtbWFzdGVyLXNlY3JldC0xMjM0NTY3ODk="))
	if err != nil {
		t.Fatal(err)
	}
	load := func(ctx context.Context) *Signer {
		t.Helper()
		s, err := LoadSigner(ctx, host, secrets)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sig := load(t.Context()).Sign("acme", "cus_1")
	if !load(t.Context()).Verify("acme", "cus_1", sig) {
		t.Error("another replica has another key")
	}
	rows, err := host.Keys.List(t.Context(), purposeSignature)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d keys, %v", len(rows), err)
	}
	if !strings.HasPrefix(rows[0].Sealed, "v1:") {
		t.Errorf("the key does not lie sealed: %.12s", rows[0].Sealed)
	}
}
