package router

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/provision/signup"
)

// setupPath is where a person who belongs to no tenant makes one.
const setupPath = "/_gate/setup"

// setupReload is how often the page of a tenant in the making is loaded again.
const setupReload = time.Second

// SetUp makes tenants for people who belong to none (identity.sign_up: create_tenant); package signup has one.
type SetUp interface {
	// State says how far the person's tenant is; false: there is none.
	State(ctx context.Context, user catalog.UserID) (signup.State, bool, error)
	// Begin makes it, or tries again what failed. signup.ErrName and signup.ErrMember, else the host database's errors.
	Begin(ctx context.Context, user catalog.UserID, name string) error
}

// setup serves GET and POST /_gate/setup: the form, then the steps as they are done, then the tenant. Only people in a
// browser sign up; a page of another site cannot have them do it.
func (g *Gate) setup(w http.ResponseWriter, r *http.Request, x *exchange) {
	if class, _ := g.engine.resolver.classify(x.verdict.Host); class != publicHost {
		if x.method != http.MethodPost {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Location", g.public.String()+setupPath)
			w.WriteHeader(http.StatusFound)
			return
		}
		g.refuse(w, x, deny(BadHost))
		return
	}
	if !g.signedIn(w, x) {
		return
	}
	if x.verdict.Identity.Kind != auth.KindSession {
		g.refuse(w, x, deny(Unauthenticated))
		return
	}
	if x.method == http.MethodPost {
		g.beginSetup(w, r, x)
		return
	}
	state, there, err := g.setUp.State(x.ctx, x.verdict.User.ID)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	if there {
		g.progress(w, x, state)
		return
	}
	if home, err := g.homeless(x); err != nil {
		g.refuse(w, x, denialOf(err))
	} else if !home {
		seeOther(w, tenantsPath)
	} else {
		page.Render(w, http.StatusOK, g.setupForm(x, defaultName(x.verdict.User.Email), ""))
	}
}

// homeless reports whether the person belongs to no tenant.
func (g *Gate) homeless(x *exchange) (bool, error) {
	records, err := g.engine.directory.list(x.ctx, x.verdict.Identity.User)
	for _, rec := range records {
		if rec.member == activeMembership {
			return false, err
		}
	}
	return true, err
}

func (g *Gate) beginSetup(w http.ResponseWriter, r *http.Request, x *exchange) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		g.refuse(w, x, denyFor(BadRequest, err))
		return
	}
	name := r.PostForm.Get("name")
	actor := catalog.Actor{ID: string(x.verdict.Identity.User), IP: x.client.realIP}
	err := g.setUp.Begin(catalog.WithActor(x.ctx, actor), x.verdict.User.ID, name)
	switch {
	case errors.Is(err, signup.ErrName):
		page.Render(w, http.StatusBadRequest, g.setupForm(x, name, "A name has 1 to 80 characters, all of which can be read."))
	case errors.Is(err, signup.ErrMember):
		seeOther(w, tenantsPath)
	case err != nil:
		g.refuse(w, x, denialOf(err))
	default:
		seeOther(w, setupPath) // what is reloaded is no form
	}
}

func seeOther(w http.ResponseWriter, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// defaultName is what the form suggests: "ada's workspace".
func defaultName(email string) string {
	local, _, _ := strings.Cut(email, "@")
	if name, ok := signup.CleanName(local + "'s workspace"); ok && local != "" {
		return name
	}
	return "My workspace"
}

func (g *Gate) setupForm(x *exchange, name, fault string) page.Data {
	text := []string{"You do not belong to a workspace yet. Make one of your own: it has a database of its own and is ready in seconds."}
	if fault != "" {
		text = append(text, fault)
	}
	return page.Data{
		Heading: "Create your workspace", Text: text, Who: x.verdict.User.Email, FormTargets: g.setupTargets(),
		Actions: []page.Action{
			{
				Label: "Create workspace", URL: setupPath, Method: http.MethodPost, Primary: true,
				Field: &page.Field{Name: "name", Label: "Name", Value: name, MaxLength: signup.MaxName},
			},
			{Label: "Sign out", URL: logoutPath},
		},
	}
}

// setupSteps are what people see of the steps of provisioning.
func setupSteps() []struct {
	step provision.Step
	text string
} {
	return []struct {
		step provision.Step
		text string
	}{
		{provision.Recorded, "Reserve its names"},
		{provision.Role, "Create its own access"},
		{provision.Database, "Create its database"},
		{provision.Migrated, "Set its tables up"},
		{provision.Rows, "Make you its owner"},
		{provision.Checked, "Try the connection"},
		{provision.Ready, "Open it"},
	}
}

// setupTargets are where a form's redirects may end: at the new tenant's host.
func (g *Gate) setupTargets() []string {
	res := &g.engine.resolver
	if !res.on[SourceHost] || res.baseDomain == "" {
		return nil
	}
	host := Host{Name: "*." + res.baseDomain, Port: g.public.Port()}
	return []string{g.public.Scheme + "://" + host.String()}
}

// progress shows the steps; a tenant that is ready is entered.
func (g *Gate) progress(w http.ResponseWriter, x *exchange, state signup.State) {
	if state.Ready {
		g.enterNew(w, x, state)
		return
	}
	d := page.Data{
		Heading: "Your workspace is being created", Text: []string{state.Name}, Who: x.verdict.User.Email, Reload: setupReload,
		Actions: []page.Action{{Label: "Look again", URL: setupPath}},
	}
	next := true
	for _, s := range setupSteps() {
		item := page.Item{Title: s.text, Badge: "waiting"}
		switch {
		case state.Step.Reached(s.step):
			item.Badge = "done"
		case next && state.Failed:
			item.Badge, item.Failed, next = "failed", true, false
		case next && state.Troubled:
			item.Badge, next = "trying again", false
		case next:
			item.Badge, item.Current, next = "under way", true, false
		}
		d.Items = append(d.Items, item)
	}
	switch {
	case state.Failed:
		d.Heading, d.Reload, d.FormTargets = "Your workspace could not be created", 0, g.setupTargets()
		d.Text = append(d.Text, "A step did not work. What was done so far is kept. Try again; if it happens again, tell whoever runs this application.")
		d.Actions = []page.Action{
			{Label: "Try again", URL: setupPath, Method: http.MethodPost, Primary: true}, {Label: "Sign out", URL: logoutPath},
		}
	case state.Troubled:
		d.Text = append(d.Text, "A step did not work at first. It is tried again by itself; you can leave this page and come back.")
	}
	page.Render(w, http.StatusOK, d)
}

// enterNew leads to the tenant that sign-up made: to its own address, or to the start where tenants have none. One that the
// person cannot enter (any more) is shown by the picker.
func (g *Gate) enterNew(w http.ResponseWriter, x *exchange, state signup.State) {
	home, err := g.homeless(x)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	if home {
		page.Render(w, http.StatusOK, page.Data{
			Heading: "Your workspace is not there any more", Who: x.verdict.User.Email,
			Text:    []string{"The workspace that you made was closed, or you are no longer its member. Tell whoever runs this application."},
			Actions: []page.Action{{Label: "Sign out", URL: logoutPath}},
		})
		return
	}
	to := tenantsPath
	if u := g.tenantURL(x, state.Tenant, "", "/"); u != "" {
		to = u
	} else if !g.engine.resolver.namedByURL() && g.engine.resolver.on[SourceOnly] {
		to = "/"
	}
	seeOther(w, to)
}
