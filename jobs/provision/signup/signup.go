// Package signup gives a person who belongs to no tenant one of their own (identity.sign_up: create_tenant).
//
// Purpose: Begin records the sign-up and the job that provisions the tenant, in one transaction; State says how far that
// is. There is one tenant a person, however often and wherever it is asked for: the row of sys_tenant_sign_ups is the
// person's own, and a second one does nothing.
//
// Concurrency: a SignUps holds nothing but what it was made of and is safe for concurrent use. Of several replicas that
// are asked at once one records, and whichever takes the job does the work.
//
// Failure mode: what cannot be recorded does not happen. A tenant that is not finished is not active; what failed stays,
// with its step, and Begin tries it again. No error text of a server reaches State.
package signup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/provision"
)

// MaxName is the longest name of a tenant, in characters.
const MaxName = 80

// Errors of Begin; test with errors.Is. Others are the host database's.
var (
	// ErrName: the name is empty, too long, or no plain text.
	ErrName = errors.New("a name has 1 to 80 characters, all of which can be read")
	// ErrMember: the person belongs to a tenant already, and gets none by signing up.
	ErrMember = errors.New("belongs to a tenant already")
)

// Config says what a new tenant has.
type Config struct {
	// FreePlan is the plan of a tenant where no plan on offer has a trial.
	FreePlan string
	// ExemptPlans need no subscription; nobody signs up for one by a trial.
	ExemptPlans []string
}

// Deps are what a SignUps stands on.
type Deps struct {
	Host *catalog.HostDatabase
	// Wake makes this process look for jobs at once. Nil: it finds the job at its next look.
	Wake func()
}

// SignUps is made with New.
type SignUps struct {
	cfg  Config
	deps Deps
}

// New returns a SignUps.
func New(cfg Config, deps Deps) *SignUps {
	if deps.Wake == nil {
		deps.Wake = func() {}
	}
	return &SignUps{cfg, deps}
}

// State is how far a person's tenant is.
type State struct {
	Tenant catalog.TenantID
	Name   string
	// Step is the last step that was done, "" for none.
	Step provision.Step
	// Ready: the tenant was brought to its end.
	Ready bool
	// Failed: nothing goes on before Begin is called again. Troubled: a step did not work, and is tried again by itself.
	Failed, Troubled bool
}

// State says how far the person's tenant is; ok false: there is none.
func (s *SignUps) State(ctx context.Context, user catalog.UserID) (state State, ok bool, err error) {
	row, err := s.deps.Host.TenantSignUp(ctx, user)
	if errors.Is(err, catalog.ErrNotFound) {
		return State{}, false, nil
	}
	if err != nil {
		return State{}, false, err
	}
	state = State{Tenant: row.TenantID, Name: row.Name}
	job, err := s.deps.Host.Jobs.Get(ctx, row.JobID)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return State{}, false, err
	}
	if err == nil {
		over := catalog.JobOver(job.Status)
		state.Ready = over && *job.Status == catalog.JobCompleted
		state.Failed = over && !state.Ready
		state.Troubled = !over && job.ErrorLog != nil && *job.ErrorLog != ""
	}
	record, err := s.deps.Host.TenantDatabases.Get(ctx, row.TenantID)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		// Of a job that is over its row is removed in time: then the tenant is there, or was.
		state.Ready = state.Ready || job == nil
	case err != nil:
		return State{}, false, err
	default:
		state.Step = provision.Step(record.Step)
		state.Ready = state.Step == provision.Ready
		state.Failed = state.Failed && !state.Ready
	}
	return state, true, nil
}

// Begin records the person's tenant and the job that makes it; the actor is the context's. Where it is recorded already
// the name counts for nothing, and what failed is tried again.
func (s *SignUps) Begin(ctx context.Context, user catalog.UserID, name string) error {
	state, there, err := s.State(ctx, user)
	if err != nil {
		return err
	}
	if !there {
		err = s.record(ctx, user, name)
	} else if state.Failed {
		err = s.again(ctx, user)
	}
	if err == nil {
		s.deps.Wake()
	}
	return err
}

func (s *SignUps) record(ctx context.Context, user catalog.UserID, name string) error {
	name, ok := CleanName(name)
	if !ok {
		return ErrName
	}
	return s.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		if err := tx.LockUser(ctx, "sign-up/"+string(user)); err != nil {
			return err
		}
		if _, err := tx.TenantSignUp(ctx, user); !errors.Is(err, catalog.ErrNotFound) {
			return err // another tab was quicker, or it cannot be read
		}
		member, _, err := tx.Memberships.List(ctx, catalog.Page{Limit: 1, Filter: map[string]string{"user_id": string(user), "is_active": "true"}})
		if err != nil {
			return err
		}
		if len(member) > 0 {
			return ErrMember
		}
		spec := provision.Spec{Tenant: catalog.TenantID(catalog.GenID()), Name: name, Owner: user}
		if spec.PlanTier, err = s.plan(ctx, tx); err != nil {
			return err
		}
		job, err := provision.Enqueue(ctx, tx, spec)
		if err != nil {
			return err
		}
		_, err = tx.AddTenantSignUp(ctx, &catalog.TenantSignUp{
			UserID: user, TenantID: spec.Tenant, Name: name, PlanTier: spec.PlanTier, JobID: job,
		})
		return err
	})
}

// again has a job that failed tried once more. That somebody else has done so is as good.
func (s *SignUps) again(ctx context.Context, user catalog.UserID) error {
	row, err := s.deps.Host.TenantSignUp(ctx, user)
	if err != nil {
		return err
	}
	if err = s.deps.Host.RetryJob(ctx, row.JobID); errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	return err
}

// plan is what a new tenant is on: of the plans on offer that have a trial the first by sort_order, then by id; without
// one the free plan.
func (s *SignUps) plan(ctx context.Context, tx *catalog.Tx) (string, error) {
	plans, _, err := tx.PricingPlans.List(ctx, catalog.Page{Limit: 1000})
	if err != nil {
		return "", err
	}
	plans = slices.DeleteFunc(plans, func(p catalog.PricingPlan) bool {
		return p.IsActive == nil || !*p.IsActive || p.TrialDays == nil || *p.TrialDays <= 0 || slices.Contains(s.cfg.ExemptPlans, string(p.ID))
	})
	if len(plans) == 0 {
		return s.cfg.FreePlan, nil
	}
	first := slices.MinFunc(plans, func(a, b catalog.PricingPlan) int {
		if x, y := order(a), order(b); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return string(first.ID), nil
}

// order is a plan's sort_order; NULL comes last.
func order(p catalog.PricingPlan) int64 {
	if p.SortOrder == nil {
		return 1<<63 - 1
	}
	return *p.SortOrder
}

// CleanName is a name without white space around it; ok false: it is empty, too long, or holds what cannot be read.
func CleanName(name string) (clean string, ok bool) {
	name = strings.TrimSpace(name)
	n := utf8.RuneCountInString(name)
	bad := func(r rune) bool { return r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) }
	return name, n > 0 && n <= MaxName && utf8.ValidString(name) && !strings.ContainsFunc(name, bad)
}
