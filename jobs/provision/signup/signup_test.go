package signup

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs/provision"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func onBothEngines(t *testing.T, test func(t *testing.T, host *catalog.HostDatabase)) {
	t.Helper()
	for name, url := range map[string]func() string{
		"postgresql": func() string { return pgtest.New(t) },
		"sqlite":     func() string { return "sqlite:" + filepath.Join(t.TempDir(), "host.db") },
	} {
		t.Run(name, func(t *testing.T) {
			host, err := catalog.Open(t.Context(), url())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = host.Close() })
			test(t, host)
		})
	}
}

func jobsOf(t *testing.T, host *catalog.HostDatabase) []catalog.SystemJob {
	t.Helper()
	all, _, err := host.Jobs.List(t.Context(), catalog.Page{Limit: 100, Filter: map[string]string{"job_type": provision.Job}})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPlanOfANewTenant(t *testing.T) {
	plan := func(id string, active bool, trial, sort int64) *catalog.PricingPlan {
		return &catalog.PricingPlan{ID: catalog.PlanID(id), IsActive: &active, TrialDays: &trial, SortOrder: &sort}
	}
	onBothEngines(t, func(t *testing.T, host *catalog.HostDatabase) {
		s := New(Config{FreePlan: "gratis", ExemptPlans: []string{"internal"}}, Deps{Host: host})
		for _, step := range []struct {
			add  *catalog.PricingPlan
			want string
		}{
			{nil, "gratis"},
			{plan("free", true, 0, 0), "gratis"},
			{plan("old", false, 30, 0), "gratis"},
			{plan("internal", true, 30, 0), "gratis"},
			{plan("pro", true, 14, 5), "pro"},
			{plan("basic", true, 14, 5), "basic"},
			{plan("starter", true, 7, 1), "starter"},
		} {
			if step.add != nil {
				if err := host.PricingPlans.Insert(t.Context(), step.add); err != nil {
					t.Fatal(err)
				}
			}
			var got string
			if err := host.InTx(t.Context(), func(tx *catalog.Tx) (err error) {
				got, err = s.plan(t.Context(), tx)
				return err
			}); err != nil || got != step.want {
				t.Errorf("got %q, want %q: %v", got, step.want, err)
			}
		}
	})
}

func TestManyPressesMakeOneJob(t *testing.T) {
	onBothEngines(t, func(t *testing.T, host *catalog.HostDatabase) {
		s := New(Config{FreePlan: "free"}, Deps{Host: host})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := s.Begin(t.Context(), "ann", "Books"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		state, there, err := s.State(t.Context(), "ann")
		if err != nil || !there || state.Name != "Books" || state.Ready || state.Failed || state.Step != "" {
			t.Errorf("%+v %v %v", state, there, err)
		}
		if n := len(jobsOf(t, host)); n != 1 {
			t.Errorf("%d jobs", n)
		}
		if _, there, err := s.State(t.Context(), "bob"); there || err != nil {
			t.Errorf("bob has one: %v", err)
		}
	})
}

func TestWhoBelongsToATenantGetsNone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, host *catalog.HostDatabase) {
		s := New(Config{FreePlan: "free"}, Deps{Host: host})
		for _, m := range []*catalog.Membership{
			{UserID: "ann", TenantID: "acme", IsActive: new(true)}, {UserID: "bob", TenantID: "acme", IsActive: new(false)},
		} {
			if err := host.Memberships.Insert(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Begin(t.Context(), "ann", "Books"); !errors.Is(err, ErrMember) {
			t.Errorf("got %v", err)
		}
		if err := s.Begin(t.Context(), "bob", "Books"); err != nil {
			t.Errorf("a membership that has ended: %v", err)
		}
		if n := len(jobsOf(t, host)); n != 1 {
			t.Errorf("%d jobs", n)
		}
	})
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"Books": "Books", "  Ada’s Bücher ": "Ada’s Bücher", strings.Repeat("ü", MaxName): strings.Repeat("ü", MaxName), "日本": "日本",
		"": "", " \t": "", "a\nb": "", "a\x00b": "", "\xff": "", "a\u202eb": "", strings.Repeat("x", MaxName+1): "",
	} {
		if got, ok := CleanName(name); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", name, got, ok)
		}
	}
}

func FuzzCleanName(f *testing.F) {
	f.Add("Books")
	f.Add("a\u202eb")
	f.Fuzz(func(t *testing.T, name string) {
		got, ok := CleanName(name)
		if again, still := CleanName(got); ok && (!still || again != got || strings.ContainsAny(got, "\x00\r\n")) {
			t.Errorf("%q is clean and %q is not", name, got)
		}
	})
}
