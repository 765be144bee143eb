package billing

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

func TestFeaturesOfAPlan(t *testing.T) {
	for _, c := range []struct {
		name string
		json *string
		want []string
	}{
		{"NULL", nil, nil},
		{"empty text", new(""), nil},
		{"empty array", new("[]"), nil},
		{"in order, each once", new(`["b","a","b","c","a"]`), []string{"b", "a", "c"}},
		{"comma inside a key stays one key", new(`["a,b","ü"]`), []string{"a,b", "ü"}},
		{"empty keys name nothing", new(`["","a"]`), []string{"a"}},
		{"an object", new(`{"a":true}`), nil},
		{"a string", new(`"a"`), nil},
		{"null", new(`null`), nil},
		{"one element is a number", new(`["a",1]`), nil},
		{"one element is null", new(`["a",null]`), nil},
		{"one element is an array", new(`["a",["b"]]`), nil},
		{"cut off", new(`["a"`), nil},
		{"trailing data", new(`["a"] ["b"]`), nil},
		{"invalid UTF-8", new("[\"a\xff\"]"), nil},
		{"surrounded by space", new(" [\n\"a\" ] "), []string{"a"}},
		{"too long", new(`["` + strings.Repeat("a", maxPlanText) + `"]`), nil},
		{"too many", new(`["a"` + strings.Repeat(`,"a"`, maxFeatureNum) + `]`), nil},
	} {
		plan := ParsePlan(&catalog.PricingPlan{ID: "p", Features: c.json})
		if !slices.Equal(plan.Features, c.want) {
			t.Errorf("%s: %q, want %q", c.name, plan.Features, c.want)
		}
		for _, f := range c.want {
			if !plan.Has(f) {
				t.Errorf("%s: %q is not granted", c.name, f)
			}
		}
		if plan.Has("z") || plan.Has("") {
			t.Errorf("%s: grants what it has not", c.name)
		}
	}
}

func TestAllFeaturesGrantsEveryFeature(t *testing.T) {
	plan := ParsePlan(&catalog.PricingPlan{Features: new(`["a","all_features"]`)})
	if !plan.Has("anything") || !slices.Equal(plan.Features, []string{"a", "all_features"}) {
		t.Errorf("%+v", plan)
	}
}

func TestLevelOfAPlan(t *testing.T) {
	rows := []catalog.PricingPlan{
		{ID: "null"},
		{ID: "zero", TierLevel: new(int64(0))},
		{ID: "retired", TierLevel: new(int64(3)), IsActive: new(false)},
	}
	plans := ParsePlans(rows)
	for _, c := range []struct {
		key      string
		entitled bool
		want     int64
	}{
		{"null", false, 1},
		{"zero", true, 0},
		{"retired", false, 3}, // active or not
		{"no such plan", true, 1},
		{"no such plan", false, 0},
		{"", true, 1},
		{"NULL", false, 0}, // keys are exact
	} {
		view := plans.View(c.key, c.entitled)
		if view.Level != c.want || view.Key != c.key {
			t.Errorf("%q, entitled %v: %+v, want level %d", c.key, c.entitled, view, c.want)
		}
	}
	none := ParsePlans(nil).View("x", true)
	if none.Level != 1 || len(none.Features) != 0 || none.Has("a") {
		t.Errorf("no rows: %+v", none)
	}
}

// Whatever a row holds: no panic, no key twice, and only keys that the text spells.
func FuzzFeatures(f *testing.F) {
	for _, seed := range []string{``, `[]`, `["a","b"]`, `["a",1]`, `{"a":1}`, "[\"\xff\"]", `["\u0041","A"]`, `[["a"]]`, `["all_features"]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		features := ParsePlan(&catalog.PricingPlan{Features: &s}).Features
		seen := make(map[string]bool)
		for _, feature := range features {
			if feature == "" || seen[feature] {
				t.Fatalf("%q in %q", feature, features)
			}
			seen[feature] = true
		}
		var plain []string
		if err := json.Unmarshal([]byte(s), &plain); err != nil && len(features) > 0 {
			t.Fatalf("features %q of no array of strings", features)
		}
	})
}
