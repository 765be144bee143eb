package catalog

import (
	"errors"
	"testing"
)

// tokenWorld is a database with two users and a tenant.
func tokenWorld(t *testing.T, url string) *HostDatabase {
	t.Helper()
	h := openTest(t, url)
	must(t, h.GlobalUsers.Insert(t.Context(), &GlobalUser{ID: "u1", Email: new("u1@example.com")}))
	must(t, h.GlobalUsers.Insert(t.Context(), &GlobalUser{ID: "u2"}))
	must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "acme"}))
	return h
}

func userToken(id APITokenID, user UserID) *APIToken {
	return &APIToken{ID: id, UserID: user, Kind: TokenUser, MAC: "m-" + string(id)}
}

func TestAPITokenLivesAndDies(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := tokenWorld(t, url)
		exercise(t, &h.APITokens.Table, &APIToken{UserID: "u1", TenantID: "acme", Kind: TokenUser, MAC: "m", ExpiresAt: new("2027-01-01T00:00:00")},
			func(k *APIToken) { k.Name = new("deploy") },
			func(k *APIToken) bool {
				return *k.Name == "deploy" && k.TenantID == "acme" && *k.ExpiresAt == "2027-01-01T00:00:00" && k.CreatedAt == "2026-06-01T12:00:00"
			})
	})
}

func TestTokenOfNobodyIsRefusedAndWhatTheMACBindsNeverChanges(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := tokenWorld(t, url)
		ctx := t.Context()
		for name, row := range map[string]*APIToken{
			"no such user":         userToken("a", "nobody"),
			"no user":              userToken("a", ""),
			"no such tenant":       {UserID: "u1", TenantID: "nowhere", Kind: TokenUser, MAC: "m"},
			"no MAC":               {UserID: "u1", Kind: TokenUser},
			"no kind":              {UserID: "u1", MAC: "m"},
			"admin of a user":      {UserID: "u1", Kind: TokenAdmin, MAC: "m"},
			"admin of a tenant":    {TenantID: "acme", Kind: TokenAdmin, MAC: "m"},
			"another kind of kind": {UserID: "u1", Kind: "root", MAC: "m"},
		} {
			if err := h.APITokens.Insert(ctx, row); err == nil {
				t.Errorf("%s: inserted", name)
			}
		}
		must(t, h.APITokens.Insert(ctx, userToken("k", "u1")))
		for name, change := range map[string]func(*APIToken){
			"user":   func(k *APIToken) { k.UserID = "u2" },
			"tenant": func(k *APIToken) { k.TenantID = "acme" },
			"kind":   func(k *APIToken) { k.Kind = TokenAdmin },
			"mac":    func(k *APIToken) { k.MAC = "other" },
			"end":    func(k *APIToken) { k.ExpiresAt = new("2099-01-01T00:00:00") },
		} {
			row := userToken("k", "u1")
			row.CreatedAt = "2026-06-01T12:00:00"
			change(row)
			if err := h.APITokens.Update(ctx, row); err == nil {
				t.Errorf("%s changed", name)
			}
		}
		if _, _, err := h.APITokens.List(ctx, Page{Filter: map[string]string{"mac": "m-k"}}); err == nil {
			t.Error("rows can be found by their MAC")
		}
	})
}

func TestTokenUserTellsTokenUserAndBlockInOneRead(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := tokenWorld(t, url)
		ctx := t.Context()
		must(t, h.APITokens.Insert(ctx, userToken("k1", "u1")))
		must(t, h.APITokens.Insert(ctx, &APIToken{ID: "adm", Kind: TokenAdmin, MAC: "m"}))
		f, err := h.TokenUser(ctx, "k1")
		must(t, err)
		if f.Token.MAC != "m-k1" || f.User == nil || *f.User.Email != "u1@example.com" || f.Blocked {
			t.Errorf("%+v", f)
		}
		if f, err = h.TokenUser(ctx, "adm"); err != nil || f.User != nil || f.Token.Kind != TokenAdmin {
			t.Errorf("admin: %+v, %v", f, err)
		}
		for _, id := range []APITokenID{"", "k", "K1", "k1\x00"} {
			if _, err := h.TokenUser(ctx, id); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
		// Another program's rows.
		execAs(t, "", h, "INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ('u1')")
		if f, err = h.TokenUser(ctx, "k1"); err != nil || !f.Blocked {
			t.Errorf("blocked: %+v, %v", f, err)
		}
		execAs(t, "", h, "DELETE FROM core_users WHERE id = 'u1'")
		if f, err = h.TokenUser(ctx, "k1"); err != nil || f.User != nil {
			t.Errorf("gone: %+v, %v", f, err)
		}
	})
}

func TestLastUseOfATokenNeverGoesBack(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := tokenWorld(t, url)
		ctx := t.Context()
		must(t, h.APITokens.Insert(ctx, userToken("k1", "u1")))
		for _, at := range []string{"2026-06-02T00:00:00", "2026-06-03T00:00:00", "2026-06-01T00:00:00"} {
			must(t, h.APITokens.Touch(ctx, "k1", at))
		}
		if got, err := h.APITokens.Get(ctx, "k1"); err != nil || *got.LastUsed != "2026-06-03T00:00:00" {
			t.Errorf("%+v, %v", got, err)
		}
		if err := h.APITokens.Touch(ctx, "k2", "2026-06-03T00:00:00"); !errors.Is(err, ErrNotFound) {
			t.Errorf("no such token: %v", err)
		}
	})
}

func TestTokensEndWithTheirUserTheirBlockAndTheirTenant(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := tokenWorld(t, url)
		ctx := t.Context()
		left := func() string {
			rows, _, err := h.APITokens.List(ctx, Page{})
			must(t, err)
			ids := ""
			for _, r := range rows {
				ids += string(r.ID) + " "
			}
			return ids
		}
		must(t, h.APITokens.Insert(ctx, userToken("k1", "u1")))
		must(t, h.APITokens.Insert(ctx, userToken("k2", "u2")))
		must(t, h.APITokens.Insert(ctx, &APIToken{ID: "k3", UserID: "u2", TenantID: "acme", Kind: TokenUser, MAC: "m"}))
		must(t, h.APITokens.Insert(ctx, &APIToken{ID: "k4", Kind: TokenAdmin, MAC: "m"}))
		must(t, h.Sessions.Insert(ctx, &Session{ID: "s2", UserID: "u2", Host: "h", MAC: "m", ExpiresAt: "2027-01-01T00:00:00"}))
		must(t, h.BlockUser(ctx, "u1", "test"))
		if got := left(); got != "k2 k3 k4 " {
			t.Errorf("after the block: %s", got)
		}
		must(t, h.Tenants.Delete(ctx, "acme"))
		if got := left(); got != "k2 k4 " {
			t.Errorf("after the tenant: %s", got)
		}
		must(t, h.GlobalUsers.Delete(ctx, "u2"))
		if got := left(); got != "k4 " {
			t.Errorf("after the user: %s", got)
		}
		if s, err := h.Sessions.ListByUser(ctx, "u2"); err != nil || len(s) != 0 {
			t.Errorf("sessions of a user who is gone: %v, %v", s, err)
		}
		rows, _, err := h.AuditLogs.List(ctx, Page{Filter: map[string]string{"event_type": "token.deleted"}})
		must(t, err)
		if len(rows) != 3 {
			t.Errorf("%d audit rows of ended tokens", len(rows))
		}
	})
}
