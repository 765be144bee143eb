package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tenantgate/tenantgate/catalog"
)

// AssertionInput is what one assertion says. Empty fields but User and Audience are left out of it.
type AssertionInput struct {
	Audience     string
	User         catalog.UserID
	Email        string
	Tenant       catalog.TenantID
	Role         string
	Profile      string
	Plan         string
	Subscription string
	// DBURI is hashed; the URI itself is never in the assertion.
	DBURI catalog.DBURI
	// Lifetime is a second to an hour; the caller renews at half of it.
	Lifetime time.Duration
}

// assertionClaims is the payload (contract, section 4). Dates are whole seconds since 1970.
type assertionClaims struct {
	Issuer       string `json:"iss"`
	Audience     string `json:"aud"`
	Subject      string `json:"sub"`
	Email        string `json:"email,omitempty"`
	Tenant       string `json:"tenant,omitempty"`
	Role         string `json:"role,omitempty"`
	Profile      string `json:"profile,omitempty"`
	Plan         string `json:"plan,omitempty"`
	Subscription string `json:"subscription,omitempty"`
	DBURISHA256  string `json:"db_uri_sha256,omitempty"` // base64url without padding, of the URI as sent
	IssuedAt     int64  `json:"iat"`
	Expires      int64  `json:"exp"`
}

// Assert signs an assertion: a compact JWS, ES256 with kid, that the keys at /_gate/jwks.json verify. iss is public_url
// without a trailing slash. It costs one ECDSA signature.
func (a *Auth) Assert(in AssertionInput) (string, error) {
	if in.Audience == "" || in.User == "" || in.Lifetime < time.Second || in.Lifetime > maxAssertion {
		return "", errors.New("assertion needs audience, user and a lifetime of a second to an hour")
	}
	now := a.clock()
	claims := assertionClaims{
		Issuer: a.Issuer(), Audience: in.Audience, Subject: string(in.User), Email: in.Email,
		Tenant: string(in.Tenant), Role: in.Role, Profile: in.Profile, Plan: in.Plan, Subscription: in.Subscription,
		IssuedAt: now.Unix(), Expires: now.Add(in.Lifetime).Unix(),
	}
	if !in.DBURI.IsZero() {
		sum := sha256.Sum256([]byte(in.DBURI.Reveal()))
		claims.DBURISHA256 = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	keys := a.keys.signing.Load()
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{algES256, keys.kid, "JWT"})
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodES256.Sign(signed, keys.signer)
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// Issuer is the iss of assertions: public_url without a trailing slash.
func (a *Auth) Issuer() string { return a.origins.public.String() }

// JWKS serves GET /_gate/jwks.json: the public keys of the assertion (RFC 7517), for anybody, five minutes old at most.
func (a *Auth) JWKS(w http.ResponseWriter, r *http.Request) {
	if !a.allows(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=300")
	jwks := a.keys.signing.Load().jwks
	h.Set("Content-Length", strconv.Itoa(len(jwks)))
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(jwks)
}
