package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// Keys of the metadata that our checkout writes on a subscription.
const (
	MetadataTenant    = "tenant_id"
	MetadataSignature = "tenant_sig"
)

// purposeSignature is the purpose of the sys_keys rows that sign metadata.
const purposeSignature = "stripe_metadata"

// signedDomain begins what is signed, so that no other MAC of ours is ever a signature.
const signedDomain = "tenantgate/stripe-metadata/v1"

// Signer signs and verifies to which tenant a Stripe customer's subscriptions belong. Whoever may write metadata in
// Stripe but does not have the key can make no signature; and because the customer is signed too, one that is copied to
// another customer's subscription is worth nothing. It is immutable and safe for concurrent use.
type Signer struct{ keys [][]byte }

// NewSigner makes a Signer of keys of 32 bytes; the first signs, all verify.
func NewSigner(keys [][]byte) (*Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("signing metadata: no key")
	}
	for _, k := range keys {
		if len(k) < sealing.MACKeyBytes {
			return nil, errors.New("signing metadata: a key is too short")
		}
	}
	return &Signer{keys}, nil
}

// LoadSigner reads the key from the host database, where it lies sealed; without one it is made, once for all replicas.
func LoadSigner(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset) (*Signer, error) {
	keys, err := sealing.MACKeys(ctx, host, secrets, purposeSignature)
	if err != nil {
		return nil, err
	}
	return NewSigner(keys)
}

// Sign is the tenant_sig of a tenant's subscription of that customer: 43 characters of base64url.
func (s *Signer) Sign(tenant catalog.TenantID, customer string) string {
	return mac(s.keys[0], tenant, customer)
}

// Verify reports whether Sign made the signature for this tenant and this customer. It takes the same time whatever the
// signature is. No tenant and no customer are never signed.
func (s *Signer) Verify(tenant catalog.TenantID, customer, signature string) bool {
	if tenant == "" || customer == "" {
		return false
	}
	good := false
	for _, k := range s.keys {
		good = hmac.Equal([]byte(mac(k, tenant, customer)), []byte(signature)) || good
	}
	return good
}

// Claims returns the tenant that metadata on something of that customer's proves; false if it proves none.
func (s *Signer) Claims(metadata map[string]string, customer string) (catalog.TenantID, bool) {
	tenant := catalog.TenantID(metadata[MetadataTenant])
	return tenant, s.Verify(tenant, customer, metadata[MetadataSignature])
}

// mac is over domain, tenant and customer, each after its length, so that no two pairs are one text.
func mac(key []byte, tenant catalog.TenantID, customer string) string {
	h := hmac.New(sha256.New, key)
	for _, part := range []string{signedDomain, string(tenant), customer} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
