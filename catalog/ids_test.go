package catalog

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// A new id has a bound, since PostgreSQL's indexes have one; a row that another program gave a longer id works on.
func TestNewIDsAreBounded(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := openTest(t, url)
		long, longest := strings.Repeat("é", MaxNewID/2+1), strings.Repeat("x", MaxNewID)
		for kind, insert := range map[string]func(id string) error{
			"user":       func(id string) error { return h.GlobalUsers.Insert(ctx, &GlobalUser{ID: UserID(id)}) },
			"tenant":     func(id string) error { return h.Tenants.Insert(ctx, &TenantCatalog{ID: TenantID(id)}) },
			"membership": func(id string) error { return h.Memberships.Insert(ctx, &Membership{ID: MembershipID(id)}) },
			"plan":       func(id string) error { return h.PricingPlans.Insert(ctx, &PricingPlan{ID: PlanID(id)}) },
		} {
			if err := insert(long); !errors.Is(err, ErrLongID) || strings.Contains(err.Error(), long[:64]) {
				t.Errorf("%s of %d bytes: %v", kind, len(long), err)
			}
			if kind == "membership" {
				continue
			}
			if err := insert(longest); err != nil {
				t.Errorf("%s of %d bytes: %v", kind, MaxNewID, err)
			}
		}
		old := TenantID(strings.Repeat("old", 300))
		execAs(t, url, h, "INSERT INTO core_tenants (id, is_active) VALUES ('"+string(old)+"', true)")
		if row, err := h.Tenants.Change(ctx, old, func(row *TenantCatalog) error { row.Name = new("Old"); return nil }); err != nil || row.Name == nil {
			t.Errorf("a row that was there: %v", err)
		}
		if err := h.TenantDatabases.Insert(ctx, &TenantDatabase{TenantID: old, Engine: "e", Server: "s", DatabaseName: "d", Mark: "m", Step: "recorded"}); err != nil {
			t.Errorf("its database: %v", err)
		}
		rows := 0
		_, err := h.Tenants.Import(ctx, func() (*TenantCatalog, int, error) {
			if rows++; rows > 1 {
				return nil, 0, io.EOF
			}
			return &TenantCatalog{ID: TenantID(long)}, rows, nil
		}, false)
		if err == nil || !strings.Contains(err.Error(), ErrLongID.Error()) {
			t.Errorf("an import takes a long id: %v", err)
		}
		var noise strings.Builder
		for range 4000 {
			noise.WriteByte(byte('!' + rand.N(90)))
		}
		err = h.GlobalUsers.Insert(ctx, &GlobalUser{ID: "subject", OAuthID: new(noise.String())})
		if postgres := strings.HasPrefix(url, "postgres"); postgres && (err == nil || !strings.Contains(err.Error(), "shorten it")) || !postgres && err != nil {
			t.Errorf("a subject of 4000 bytes: %v", err)
		}
	})
}

func TestALongIDIsCutWhereItIsNamed(t *testing.T) {
	for id, want := range map[string]string{
		"": "", "acme": "acme", strings.Repeat("x", 255): strings.Repeat("x", 255), strings.Repeat("x", 256): strings.Repeat("x", 32) + "…",
		"x" + strings.Repeat("é", 200): "x" + strings.Repeat("é", 15) + "…",
	} {
		if got := ShownID(TenantID(id)); got != want {
			t.Errorf("%q is shown as %q", id, got)
		}
	}
}
