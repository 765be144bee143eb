package config

import (
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/provision"
)

// ProvisionConfig is how c makes tenants; whoever has the highest role owns one. c holds its defaults.
func (c *Config) ProvisionConfig() provision.Config {
	p := provision.Config{
		AdminURL: catalog.NewDBURI(c.Provisioning.AdminURL.Reveal()), MigrationsDir: c.Provisioning.MigrationsDir,
		Plain:    c.Provisioning.Seal != nil && !*c.Provisioning.Seal,
		FreePlan: c.Subscription.FreePlan, ExemptPlans: c.Subscription.ExemptPlans, PlanAliases: c.Subscription.PlanAliases,
	}
	if n := len(c.Roles); n > 0 {
		p.OwnerRole = c.Roles[n-1]
	}
	return p
}
