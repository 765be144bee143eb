package billing

import (
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

// AllFeatures is the feature key that grants every feature.
const AllFeatures = "all_features"

// Tier levels where no PricingPlan row says one.
const (
	levelDefault  = 1 // a plan without tier_level, and an entitled tenant without a plan
	levelUnpaid   = 0 // neither plan nor entitlement
	maxPlanText   = 1 << 20
	maxFeatureNum = 10_000
)

// PlanView is what a plan grants, parsed once and immutable: callers must not change Features.
type PlanView struct {
	Key      string   // PricingPlan.id, or the key that no row has
	Level    int64    // tier_level
	Features []string // feature keys in the row's order, each once; AllFeatures among them if it is there
	all      bool
}

// Has reports whether the plan grants feature.
func (p *PlanView) Has(feature string) bool {
	return p.all || slices.Contains(p.Features, feature)
}

// ParsePlan reads a row, active or not. A NULL tier_level is 1; features that are no JSON array of strings are none.
func ParsePlan(row *catalog.PricingPlan) PlanView {
	p := PlanView{Key: string(row.ID), Level: levelDefault}
	if row.TierLevel != nil {
		p.Level = *row.TierLevel
	}
	p.Features = parseFeatures(text(row.Features))
	p.all = slices.Contains(p.Features, AllFeatures)
	return p
}

// parseFeatures reads a JSON array of strings. Anything else, one element of another kind included, is no features.
// Empty keys name nothing and are left out.
func parseFeatures(s string) []string {
	if s == "" || len(s) > maxPlanText || !utf8.ValidString(s) {
		return nil
	}
	var raw []*string
	if err := json.Unmarshal([]byte(s), &raw); err != nil || len(raw) > maxFeatureNum {
		return nil
	}
	features := make([]string, 0, len(raw))
	seen := make(map[string]bool, len(raw))
	for _, f := range raw {
		if f == nil {
			return nil
		}
		if *f != "" && !seen[*f] {
			seen[*f] = true
			features = append(features, *f)
		}
	}
	if len(features) == 0 {
		return nil
	}
	return features
}

// Plans are the plans that one tenant may have: few, so a slice. Immutable.
type Plans struct{ plans []PlanView }

// ParsePlans reads rows.
func ParsePlans(rows []catalog.PricingPlan) Plans {
	if len(rows) == 0 {
		return Plans{}
	}
	p := Plans{plans: make([]PlanView, 0, len(rows))}
	for i := range rows {
		p.plans = append(p.plans, ParsePlan(&rows[i]))
	}
	return p
}

// View is the plan with this key. Without such a row it grants no feature and has level 1 if the tenant is entitled,
// else 0.
func (p Plans) View(key string, entitled bool) PlanView {
	for i := range p.plans {
		if p.plans[i].Key == key {
			return p.plans[i]
		}
	}
	if entitled {
		return PlanView{Key: key, Level: levelDefault}
	}
	return PlanView{Key: key, Level: levelUnpaid}
}
