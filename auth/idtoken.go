package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// person is whom a provider vouches for in a verified ID token.
type person struct {
	subject string
	sid     string // the provider's session, "" without one that is a short text
	issued  time.Time
	idToken string // as received, for RP-initiated logout
	claims  object // email and email_verified are read from it
}

// verified hands go-oidc the payload of a token whose signature was checked already, so that a key set that cannot be
// had stays apart from a token that is bad (oidc.KeySet).
type verified struct {
	raw     string
	payload []byte
}

// VerifySignature implements oidc.KeySet.
func (v verified) VerifySignature(_ context.Context, token string) ([]byte, error) {
	if token != v.raw {
		return nil, errors.New("another token")
	}
	return v.payload, nil
}

// readIDToken verifies the ID token of a token response (OpenID Connect Core 3.1.3.7): form and header first, then the
// signature, then iss, aud, exp through go-oidc, then what that leaves to us: azp, nonce, at_hash, iat, nbf.
func (a *Auth) readIDToken(ctx context.Context, p *provider, f *flow, token *oauth2.Token) (*person, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok || raw == "" {
		return nil, badIDToken(errors.New("the answer has no id_token"))
	}
	t, err := parseJWS(raw, maxIDToken)
	if err != nil {
		return nil, badIDToken(err)
	}
	if _, err := p.verifySignature(ctx, t); err != nil {
		if errors.Is(err, ErrProviderUnavailable) || ctx.Err() != nil {
			return nil, err
		}
		return nil, badIDToken(err)
	}
	now := a.clock()
	verifier := oidc.NewVerifier(p.issuer, verified{raw, t.payload}, &oidc.Config{
		ClientID: p.clientID, SupportedSigningAlgs: allAlgorithms(),
		Now: func() time.Time { return now.Add(-defaultLeeway) },
	})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return nil, badIDToken(err)
	}
	if err := p.checkIDToken(t, f, now); err != nil {
		return nil, badIDToken(err)
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, badIDToken(errors.New("at_hash is not of the access token"))
		}
	}
	who := &person{idToken: raw, claims: t.claims}
	if who.subject, ok = t.claims.subject(); !ok {
		return nil, badIDToken(errors.New("token has no sub that is a short text"))
	}
	if who.sid, _ = t.claims.text("sid"); len(who.sid) > maxSID {
		who.sid = "" // a logout token that long is refused too, so nothing would be found by it
	}
	who.issued, _, _ = t.claims.date("iat") // checked above
	return who, nil
}

// checkIDToken holds the claims that go-oidc leaves alone against ours, and iss and aud against their exact texts.
func (p *provider) checkIDToken(t *jws, f *flow, now time.Time) error {
	if t.typ != "" && t.typ != "jwt" {
		return fmt.Errorf("token is of type %q", clip(t.typ))
	}
	if _, ok := t.claims["events"]; ok {
		return errors.New("token is a logout or event token")
	}
	if iss, ok := t.claims.text("iss"); !ok || iss != p.issuer {
		return errors.New("iss is not the provider's")
	}
	nonce, ok := t.claims.text("nonce")
	if !ok || subtle.ConstantTimeCompare([]byte(nonce), []byte(f.nonce())) != 1 {
		return errors.New("nonce is not this sign-in's")
	}
	aud, ok := t.claims.audience()
	if !ok {
		return errors.New("aud is neither a text nor a list of texts")
	}
	_, hasParty := t.claims["azp"]
	if party, ok := t.claims.text("azp"); hasParty && (!ok || party != p.clientID) || !hasParty && len(aud) > 1 {
		return errors.New("azp is not us")
	}
	if exp, given, ok := t.claims.date("exp"); !given || !ok || !now.Before(exp.Add(defaultLeeway)) {
		return errors.New("token has expired")
	}
	if iat, given, ok := t.claims.date("iat"); !given || !ok || now.Add(defaultLeeway).Before(iat) {
		return errors.New("iat is missing or in the future")
	}
	if nbf, _, ok := t.claims.date("nbf"); !ok || now.Add(defaultLeeway).Before(nbf) {
		return errors.New("token is not valid yet")
	}
	return nil
}

func badIDToken(cause error) error {
	return &pageFault{
		status: http.StatusBadRequest, heading: "Your identity provider's answer could not be trusted",
		text: "Nothing was signed in. Try again. If it happens again, tell whoever runs this site.", cause: cause,
	}
}

// askUserInfo takes email and email_verified from the UserInfo endpoint where the ID token does not have both: in the
// code flow a provider may keep them there (OpenID Connect Core 5.3, 5.4). sub must be the ID token's.
func (p *provider) askUserInfo(ctx context.Context, m *metadata, who *person, accessToken string) error {
	_, address := who.claims["email"]
	_, verified := who.claims["email_verified"]
	if (address && verified) || m.UserInfo == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	body, err := getDocument(ctx, p.client, m.UserInfo, accessToken)
	if err != nil {
		return fmt.Errorf("%w: userinfo of %s: %w", ErrProviderUnavailable, p.name, err)
	}
	info, err := parseObject(body)
	if err != nil {
		return badIDToken(errors.New("userinfo is not a JSON object"))
	}
	if err := info.noLookalikes(); err != nil {
		return badIDToken(err)
	}
	if sub, ok := info.subject(); !ok || sub != who.subject {
		return badIDToken(errors.New("userinfo speaks of somebody else"))
	}
	for _, name := range []string{"email", "email_verified"} {
		delete(who.claims, name)
		if raw, ok := info[name]; ok {
			who.claims[name] = raw
		}
	}
	return nil
}
