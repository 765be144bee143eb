package attack

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// logouts sends logout tokens that are good, bad and used, with a secret wherever one can hold one.
func (n *nest) logouts(t *testing.T) {
	t.Helper()
	good := map[string]any{"sub": "nobody", "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}
	with := func(name string, v any) map[string]any {
		claims := map[string]any{name: v}
		for k, v := range good {
			if _, ok := claims[k]; !ok {
				claims[k] = v
			}
		}
		return claims
	}
	used := n.provider.logoutToken(t, n.spill, good)
	for _, c := range []struct {
		token, path string
		want        int
	}{
		{used, "dev", 200},
		{used, "dev", 400},
		{used, "nobody", 404},
		{n.provider.logoutToken(t, n.spill, with("sid", "unknown")), "dev", 200},
		{n.provider.logoutToken(t, n.spill, with("nonce", n.plantGiven("nonce of a logout token"))), "dev", 400},
		{n.provider.logoutToken(t, n.spill, with("aud", n.plantGiven("aud of a logout token"))), "dev", 400},
		{n.provider.logoutToken(t, n.spill, with("iss", n.plantGiven("iss of a logout token"))), "dev", 400},
		{n.provider.logoutToken(t, n.spill, with("exp", n.plantGiven("exp of a logout token"))), "dev", 400},
		{n.provider.logoutToken(t, n.spill, with("events", n.plantGiven("events of a logout token"))), "dev", 400},
		{n.plantGiven("garbage logout token"), "dev", 400},
		{used + n.plantGiven("signature of a logout token"), "dev", 400},
	} {
		body := url.Values{"logout_token": {c.token}, "x": {n.plant("field beside a logout token")}}.Encode()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.world.URL+"/_gate/backchannel-logout/"+c.path, strings.NewReader(n.input(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if a := do(t, n.client(t), req); a.status != c.want {
			t.Errorf("logout token: %d %s, want %d", a.status, a.body, c.want)
		}
	}
}

// logoutToken signs one with the provider's key and learns it.
func (p *leakyProvider) logoutToken(t *testing.T, s *spill, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, (&jose.SignerOptions{}).WithType("logout+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	all := map[string]any{
		"iss": "http://" + p.addr, "aud": gatetest.ClientID, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": s.plantGiven("jti"),
	}
	for k, v := range claims {
		all[k] = v
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	s.learn("logout token", token)
	return token
}
