package tenantgate

import (
	"errors"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/provision/signup"
	"github.com/tenantgate/tenantgate/router"
)

// setUp gives people tenants where cfg says so; nil: it does not.
func (g *Gate) setUp(cfg *config.Config) router.SetUp {
	if cfg.Identity.SignUp != "create_tenant" {
		return nil
	}
	return signup.New(signup.Config{FreePlan: cfg.Subscription.FreePlan, ExemptPlans: cfg.Subscription.ExemptPlans}, signup.Deps{
		Host: g.host, Wake: func() {
			if e := g.jobs.Load(); e != nil {
				e.Wake()
			}
		},
	})
}

// provisioning hands use what makes tenants under the configuration in force, which stays so long as use needs it.
func (g *Gate) provisioning(use func(*provision.Provisioner) error) (err error) {
	n := g.acquire()
	defer n.release()
	maker, err := provision.New(n.cfg.ProvisionConfig(), provision.Deps{Host: g.host, Keys: n.keys, Opener: n.opener, Clock: g.clock})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, maker.Close()) }()
	return use(maker)
}
